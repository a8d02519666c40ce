//! Messages that a pooler sends to a server on its own account.

/// A simple query.
pub fn query(out: &mut Vec<u8>, text: &str) {
    message(out, b'Q', |out| {
        out.extend_from_slice(text.as_bytes());
        out.push(0);
    });
}

/// A simple query of any bytes, of which the last is zero.
pub fn query_of(out: &mut Vec<u8>, text: &[u8]) {
    message(out, b'Q', |out| out.extend_from_slice(text));
}

/// Asks what a portal would return.
pub fn describe_portal(out: &mut Vec<u8>, name: &str) {
    message(out, b'D', |out| {
        out.push(b'P');
        out.extend_from_slice(name.as_bytes());
        out.push(0);
    });
}

/// Prepares a statement. `name` writes its name, which nothing ends; `rest` is what follows that and its end: text, zero
/// byte, parameter types.
pub fn parse(out: &mut Vec<u8>, name: impl FnOnce(&mut Vec<u8>), rest: &[u8]) {
    message(out, b'P', |out| {
        name(out);
        out.push(0);
        out.extend_from_slice(rest);
    });
}

/// Asks for the parameters of a statement and what it would return. `name` as for [`parse`].
pub fn describe_statement(out: &mut Vec<u8>, name: impl FnOnce(&mut Vec<u8>)) {
    message(out, b'D', |out| of_statement(out, name));
}

/// Closes a statement. `name` as for [`parse`].
pub fn close_statement(out: &mut Vec<u8>, name: impl FnOnce(&mut Vec<u8>)) {
    message(out, b'C', |out| of_statement(out, name));
}

/// Binds the unnamed statement to the unnamed portal, with one parameter; that and all results are text.
pub fn bind_text(out: &mut Vec<u8>, value: &str) {
    message(out, b'B', |out| {
        // Two names, no formats, one parameter.
        out.extend_from_slice(&[0, 0, 0, 0, 0, 1]);
        out.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(&[0, 0]);
    });
}

/// Executes the unnamed portal, to its end.
pub fn execute(out: &mut Vec<u8>) {
    message(out, b'E', |out| out.extend_from_slice(&[0; 5]));
}

/// Asks for the answers so far to a run of extended-protocol messages.
pub fn flush(out: &mut Vec<u8>) {
    message(out, b'H', |_| {});
}

/// Ends a run of extended-protocol messages.
pub fn sync(out: &mut Vec<u8>) {
    message(out, b'S', |_| {});
}

/// Ends a COPY from the client without success.
pub fn copy_fail(out: &mut Vec<u8>, reason: &str) {
    message(out, b'f', |out| {
        out.extend_from_slice(reason.as_bytes());
        out.push(0);
    });
}

/// Goodbye.
pub fn terminate(out: &mut Vec<u8>) {
    message(out, b'X', |_| {});
}

/// A password, in clear or hashed as the server asked.
pub fn password(out: &mut Vec<u8>, text: &str) {
    message(out, b'p', |out| {
        out.extend_from_slice(text.as_bytes());
        out.push(0);
    });
}

/// Chooses a SASL mechanism and begins it.
pub fn sasl_initial_response(out: &mut Vec<u8>, mechanism: &str, data: &[u8]) {
    message(out, b'p', |out| {
        out.extend_from_slice(mechanism.as_bytes());
        out.push(0);
        out.extend_from_slice(&u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(data);
    });
}

/// Goes on with SASL.
pub fn sasl_response(out: &mut Vec<u8>, data: &[u8]) {
    message(out, b'p', |out| out.extend_from_slice(data));
}

fn of_statement(out: &mut Vec<u8>, name: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'S');
    name(out);
    out.push(0);
}

fn message(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}
