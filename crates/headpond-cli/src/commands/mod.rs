//! One file for each command.

pub(crate) mod check;
pub(crate) mod demo;
mod measure;
mod page;
mod score;
pub(crate) mod serve;
pub(crate) mod simulate;
pub(crate) mod size;
