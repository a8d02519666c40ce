//! Whatever can be pooled by bb8.

use std::fmt;

use bb8::ManageConnection;

use crate::{Connect, Connector};

/// Any [`bb8::ManageConnection`]: `Pool::builder(FromBb8(manager)).build()`.
#[derive(Clone, Debug)]
pub struct FromBb8<M>(pub M);

/// An error that can only be debugged, shown that way.
#[derive(Debug)]
pub struct Shown<E>(pub E);

impl<E: fmt::Debug> fmt::Display for Shown<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<E: fmt::Debug> std::error::Error for Shown<E> {}

impl<M: ManageConnection> Connector for FromBb8<M>
where
    M::Error: Sync,
{
    type Connection = M::Connection;
    type Error = Shown<M::Error>;

    async fn connect(&self, _: Connect) -> Result<M::Connection, Self::Error> {
        self.0.connect().await.map_err(Shown)
    }

    async fn check(&self, connection: &mut M::Connection) -> Result<(), Self::Error> {
        self.0.is_valid(connection).await.map_err(Shown)
    }

    fn is_broken(&self, connection: &mut M::Connection) -> bool {
        self.0.has_broken(connection)
    }
}
