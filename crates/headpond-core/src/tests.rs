//! The suite of the machine: claims in virtual time, random steps against a model, and planted bugs that prove both.

pub(crate) mod bugs;
mod claims;
mod fair;
mod model;
mod steps;
