//! sqlx, whose pool takes nothing but databases of its own: here is one without rows, columns, values or statements.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use sqlx_core::Either;
use sqlx_core::Error;
use sqlx_core::arguments::Arguments;
use sqlx_core::column::{Column, ColumnIndex};
use sqlx_core::connection::{ConnectOptions, Connection};
use sqlx_core::database::Database;
use sqlx_core::encode::Encode;
use sqlx_core::error::BoxDynError;
use sqlx_core::from_row::FromRow;
use sqlx_core::pool::{Pool, PoolConnection, PoolOptions};
use sqlx_core::query::Query;
use sqlx_core::query_as::QueryAs;
use sqlx_core::query_scalar::QueryScalar;
use sqlx_core::row::Row;
use sqlx_core::sql_str::{SqlSafeStr, SqlStr};
use sqlx_core::statement::Statement;
use sqlx_core::transaction::{Transaction, TransactionManager};
use sqlx_core::type_info::TypeInfo;
use sqlx_core::types::Type;
use sqlx_core::value::{Value, ValueRef};

use crate::contenders::{self, Contender, Never};

#[derive(Debug)]
pub struct Mock;

/// What does not exist.
#[derive(Clone, Debug, PartialEq)]
pub enum Nothing {}

#[derive(Debug)]
pub struct MockConnection(#[expect(dead_code, reason = "what is pooled")] contenders::Connection);

#[derive(Clone, Debug)]
pub struct MockOptions;

#[derive(Debug, Default)]
pub struct NoArguments;

#[derive(Debug, Default)]
pub struct NoResult;

impl Extend<Self> for NoResult {
    fn extend<T: IntoIterator<Item = Self>>(&mut self, _: T) {}
}

impl Database for Mock {
    type Connection = MockConnection;
    type TransactionManager = Self;
    type Row = Nothing;
    type QueryResult = NoResult;
    type Column = Nothing;
    type TypeInfo = Nothing;
    type Value = Nothing;
    type ValueRef<'r> = Nothing;
    type Arguments = NoArguments;
    type ArgumentBuffer = ();
    type Statement = Nothing;
    const NAME: &'static str = "mock";
    const URL_SCHEMES: &'static [&'static str] = &["mock"];
}

impl Connection for MockConnection {
    type Database = Mock;
    type Options = MockOptions;

    async fn close(self) -> Result<(), Error> {
        Ok(())
    }

    async fn close_hard(self) -> Result<(), Error> {
        Ok(())
    }

    async fn ping(&mut self) -> Result<(), Error> {
        contenders::test().map_err(|Never| Error::WorkerCrashed)
    }

    fn begin(&mut self) -> impl Future<Output = Result<Transaction<'_, Mock>, Error>> + Send + '_ {
        Transaction::begin(self, None)
    }

    fn begin_with(
        &mut self,
        statement: impl SqlSafeStr,
    ) -> impl Future<Output = Result<Transaction<'_, Mock>, Error>> + Send + '_ {
        Transaction::begin(self, Some(statement.into_sql_str()))
    }

    fn shrink_buffers(&mut self) {}

    async fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn should_flush(&self) -> bool {
        false
    }
}

impl FromStr for MockOptions {
    type Err = Error;

    fn from_str(_: &str) -> Result<Self, Error> {
        Ok(Self)
    }
}

impl ConnectOptions for MockOptions {
    type Connection = MockConnection;

    fn from_url(_: &sqlx_core::Url) -> Result<Self, Error> {
        Ok(Self)
    }

    async fn connect(&self) -> Result<MockConnection, Error> {
        Ok(MockConnection(contenders::open()))
    }

    fn log_statements(self, _: log::LevelFilter) -> Self {
        self
    }

    fn log_slow_statements(self, _: log::LevelFilter, _: Duration) -> Self {
        self
    }
}

impl TransactionManager for Mock {
    type Database = Self;

    async fn begin(_: &mut MockConnection, _: Option<SqlStr>) -> Result<(), Error> {
        Ok(())
    }

    async fn commit(_: &mut MockConnection) -> Result<(), Error> {
        Ok(())
    }

    async fn rollback(_: &mut MockConnection) -> Result<(), Error> {
        Ok(())
    }

    fn start_rollback(_: &mut MockConnection) {}

    fn get_transaction_depth(_: &MockConnection) -> usize {
        0
    }
}

impl Arguments for NoArguments {
    type Database = Mock;

    fn reserve(&mut self, _: usize, _: usize) {}

    fn add<'t, T: Encode<'t, Mock> + Type<Mock>>(&mut self, _: T) -> Result<(), BoxDynError> {
        Ok(())
    }

    fn len(&self) -> usize {
        0
    }
}

impl fmt::Display for Nothing {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

impl TypeInfo for Nothing {
    fn is_null(&self) -> bool {
        match *self {}
    }

    fn name(&self) -> &str {
        match *self {}
    }
}

impl Column for Nothing {
    type Database = Mock;

    fn ordinal(&self) -> usize {
        match *self {}
    }

    fn name(&self) -> &str {
        match *self {}
    }

    fn type_info(&self) -> &Nothing {
        match *self {}
    }
}

impl Row for Nothing {
    type Database = Mock;

    fn columns(&self) -> &[Nothing] {
        match *self {}
    }

    fn try_get_raw<I: ColumnIndex<Self>>(&self, _: I) -> Result<Nothing, Error> {
        match *self {}
    }
}

impl Value for Nothing {
    type Database = Mock;

    fn as_ref(&self) -> Nothing {
        match *self {}
    }

    fn type_info(&self) -> Cow<'_, Nothing> {
        match *self {}
    }

    fn is_null(&self) -> bool {
        match *self {}
    }
}

impl ValueRef<'_> for Nothing {
    type Database = Mock;

    fn to_owned(&self) -> Nothing {
        match *self {}
    }

    fn type_info(&self) -> Cow<'_, Nothing> {
        match *self {}
    }

    fn is_null(&self) -> bool {
        match *self {}
    }
}

impl Statement for Nothing {
    type Database = Mock;

    fn into_sql(self) -> SqlStr {
        match self {}
    }

    fn sql(&self) -> &SqlStr {
        match *self {}
    }

    fn parameters(&self) -> Option<Either<&[Nothing], usize>> {
        match *self {}
    }

    fn columns(&self) -> &[Nothing] {
        match *self {}
    }

    fn query(&self) -> Query<'_, Mock, NoArguments> {
        match *self {}
    }

    fn query_with<A: sqlx_core::arguments::IntoArguments<Mock>>(&self, _: A) -> Query<'_, Mock, A> {
        match *self {}
    }

    fn query_as<O: for<'r> FromRow<'r, Nothing>>(&self) -> QueryAs<'_, Mock, O, NoArguments> {
        match *self {}
    }

    fn query_as_with<'s, O, A>(&'s self, _: A) -> QueryAs<'s, Mock, O, A>
    where
        O: for<'r> FromRow<'r, Nothing>,
        A: sqlx_core::arguments::IntoArguments<Mock>,
    {
        match *self {}
    }

    fn query_scalar<O>(&self) -> QueryScalar<'_, Mock, O, NoArguments>
    where
        (O,): for<'r> FromRow<'r, Nothing>,
    {
        match *self {}
    }

    fn query_scalar_with<'s, O, A>(&'s self, _: A) -> QueryScalar<'s, Mock, O, A>
    where
        (O,): for<'r> FromRow<'r, Nothing>,
        A: sqlx_core::arguments::IntoArguments<Mock>,
    {
        match *self {}
    }
}

impl Contender for Pool<Mock> {
    const NAME: &'static str = "sqlx";
    type Guard = PoolConnection<Mock>;

    async fn empty(size: u32, tested: bool) -> Self {
        PoolOptions::new().max_connections(size).test_before_acquire(tested).connect_lazy_with(MockOptions)
    }

    async fn acquire(&self) -> Option<Self::Guard> {
        self.acquire().await.ok()
    }

    fn future_size(&self) -> usize {
        size_of_val(&self.acquire())
    }
}
