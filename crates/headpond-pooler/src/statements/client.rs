//! What a client has prepared, by its own names.

use std::collections::HashMap;

use crate::statements::registry::StatementId;

/// A longer unnamed statement is not kept: it is only known to the connection it was sent to.
const UNNAMED_MAX: usize = 64 * 1024;

/// The text of an unnamed statement is kept in a buffer that is used again; one larger than this is given back.
const KEPT: usize = 4 * 1024;

/// A statement under a client's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) id: StatementId,
    /// The form of its parameters and rows, if the client was told.
    pub(crate) shape: Option<u64>,
}

/// Statements by a client's names.
pub(crate) type Names = HashMap<Box<[u8]>, Named>;

/// Names and statements of one client.
#[derive(Debug, Default)]
pub(crate) struct ClientStatements {
    pub(crate) names: Names,
    /// Tells its last unnamed statement from all others; 0: it has none.
    pub(crate) unnamed: u64,
    /// That, as [`super::registry::Statement::parse`]; empty if it was too large.
    parse: Vec<u8>,
    /// A Parse that streams, for the statement that it gives a name.
    pub(crate) collects: Option<(StatementId, Vec<u8>)>,
}

impl ClientStatements {
    /// The client parsed an unnamed statement. `parse`: it is all there.
    pub(crate) fn set_unnamed(&mut self, number: u64, parse: Option<&[u8]>) {
        self.unnamed = number;
        self.parse.clear();
        let parse = parse.filter(|parse| parse.len() <= UNNAMED_MAX).unwrap_or_default();
        if parse.len() <= KEPT && self.parse.capacity() > KEPT {
            self.parse = Vec::new();
        }
        self.parse.extend_from_slice(parse);
    }

    /// The unnamed statement, if there is one that is known.
    pub(crate) fn unnamed_parse(&self) -> Option<&[u8]> {
        (self.unnamed != 0 && !self.parse.is_empty()).then_some(&self.parse)
    }
}
