//! The one message of the extended protocol that is more than a name or two
//! (<https://www.postgresql.org/docs/current/protocol-message-formats.html>, `Bind`).

use headpond_wire::postgres::frame::Fields;

use super::table::Formats;

/// What matters of a Bind message.
pub(crate) struct Bind<'a> {
    pub(crate) portal: &'a [u8],
    pub(crate) statement: &'a [u8],
    pub(crate) parameters: u16,
    pub(crate) formats: Formats,
}

/// Reads the body of a Bind message; `None` if it is malformed.
pub(crate) fn bind(mut body: Fields<'_>) -> Option<Bind<'_>> {
    let (portal, statement) = (body.string()?, body.string()?);
    let parameter_formats = int2(&mut body)?;
    body.bytes(2 * usize::from(parameter_formats))?;
    let parameters = int2(&mut body)?;
    for _ in 0..parameters {
        // A negative length is NULL.
        let length = body.int32()?.cast_signed();
        body.bytes(usize::try_from(length).unwrap_or(0))?;
    }
    let codes = int2(&mut body)?;
    let formats = (0..codes).map(|_| int2(&mut body)).collect::<Option<_>>()?;
    Some(Bind { portal, statement, parameters, formats: Formats(formats) })
}

fn int2(body: &mut Fields<'_>) -> Option<u16> {
    let bytes = body.bytes(2)?;
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}
