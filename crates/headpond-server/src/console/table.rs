//! Tables as the console returns them: columns known beforehand, cells in text or binary format.

use headpond_wire::postgres::encode::{self, ColumnType};

/// A column of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) of: ColumnType,
}

/// A column of type `text`.
pub(crate) const fn text(name: &'static str) -> Column {
    Column { name, of: ColumnType::Text }
}

/// A column of type `int4`.
pub(crate) const fn int4(name: &'static str) -> Column {
    Column { name, of: ColumnType::Int4 }
}

/// A column of type `int8`.
pub(crate) const fn int8(name: &'static str) -> Column {
    Column { name, of: ColumnType::Int8 }
}

/// A column of type `numeric`.
pub(crate) const fn numeric(name: &'static str) -> Column {
    Column { name, of: ColumnType::Numeric }
}

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell {
    Null,
    Text(String),
    Number(u64),
}

/// As many cells as the table has columns.
pub(crate) type Row = Vec<Cell>;

/// A row of anything that becomes a cell.
macro_rules! row {
    ($($cell:expr),* $(,)?) => { vec![$($crate::console::table::Cell::from($cell)),*] };
}
pub(crate) use row;

impl Cell {
    /// The value on the wire; `None` is NULL.
    fn encoded(&self, of: ColumnType, binary: bool) -> Option<Vec<u8>> {
        match self {
            Self::Null => None,
            Self::Text(text) => Some(text.clone().into_bytes()),
            Self::Number(number) if !binary => Some(number.to_string().into_bytes()),
            Self::Number(number) => Some(match of {
                ColumnType::Int4 => i32::try_from(*number).unwrap_or(i32::MAX).to_be_bytes().to_vec(),
                ColumnType::Int8 => i64::try_from(*number).unwrap_or(i64::MAX).to_be_bytes().to_vec(),
                ColumnType::Numeric => binary_numeric(*number),
                ColumnType::Text => number.to_string().into_bytes(),
            }),
        }
    }
}

/// `numeric` in binary: count of digits, weight of the first, sign, scale, digits to base 10,000
/// (`numeric_send` in PostgreSQL's `numeric.c`).
fn binary_numeric(mut number: u64) -> Vec<u8> {
    let mut digits = Vec::new();
    while number > 0 {
        digits.push(u16::try_from(number % 10_000).unwrap_or(0));
        number /= 10_000;
    }
    let count = u16::try_from(digits.len()).unwrap_or(0);
    let head = [count, count.saturating_sub(1), 0, 0];
    head.into_iter().chain(digits.into_iter().rev()).flat_map(u16::to_be_bytes).collect()
}

/// Which columns of a result come in binary: the format codes of a Bind message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Formats(pub(crate) Vec<u16>);

impl Formats {
    /// No code: all text. One: it holds for all. Else one for each.
    fn binary(&self, column: usize) -> bool {
        let code = if self.0.len() == 1 { self.0.first() } else { self.0.get(column) };
        code == Some(&1)
    }
}

/// Appends the description of a table's columns.
pub(crate) fn describe(out: &mut Vec<u8>, columns: &[Column], formats: &Formats) {
    let described = columns.iter().enumerate().map(|(index, column)| encode::Column {
        name: column.name,
        of: column.of,
        binary: formats.binary(index),
    });
    encode::row_description(out, described);
}

/// Appends a table's rows.
pub(crate) fn rows(out: &mut Vec<u8>, columns: &[Column], rows: &[Row], formats: &Formats) {
    for row in rows {
        let cells = row.iter().zip(columns).enumerate();
        encode::data_row(
            out,
            cells.map(|(index, (cell, column))| cell.encoded(column.of, formats.binary(index))),
        );
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u32> for Cell {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<usize> for Cell {
    fn from(number: usize) -> Self {
        Self::Number(number as u64)
    }
}

impl From<bool> for Cell {
    fn from(yes: bool) -> Self {
        Self::Number(yes.into())
    }
}

impl<C: Into<Self>> From<Option<C>> for Cell {
    fn from(value: Option<C>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_numeric_is_what_postgresql_sends() {
        // select numeric_send(0), numeric_send(10000), numeric_send(123456789)
        assert_eq!(binary_numeric(0), [0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(binary_numeric(10_000), [0, 2, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(binary_numeric(123_456_789), [0, 3, 0, 2, 0, 0, 0, 0, 0, 1, 9, 41, 26, 133]);
    }

    #[test]
    fn a_number_in_a_text_column_is_text_in_either_format() {
        assert_eq!(Cell::from(7_u32).encoded(ColumnType::Text, true), Some(b"7".to_vec()));
        assert_eq!(Cell::from(7_u32).encoded(ColumnType::Int4, true), Some(vec![0, 0, 0, 7]));
        assert_eq!(Cell::from(None::<u32>).encoded(ColumnType::Int4, true), None);
    }
}
