//! Every message of either side, and how each is spoiled.

use std::sync::LazyLock;

/// A message by name.
pub type Named = (&'static str, Vec<u8>);

/// A message of this tag and body.
#[must_use]
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

/// A packet without a tag.
fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 8).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), &code.to_be_bytes(), body].concat()
}

/// What a client might say, in a state in which it makes sense or not.
pub static FRONTEND: LazyLock<Vec<Named>> = LazyLock::new(|| {
    vec![
        ("Query", message(b'Q', b"SELECT 1\0")),
        ("Query BEGIN", message(b'Q', b"BEGIN\0")),
        ("Query COMMIT", message(b'Q', b"COMMIT\0")),
        ("Query FAIL", message(b'Q', b"FAIL\0")),
        ("Query COPYIN", message(b'Q', b"COPYIN\0")),
        ("Query COPYOUT", message(b'Q', b"COPYOUT\0")),
        ("Query without NUL", message(b'Q', b"SELECT 1")),
        ("Query of nothing", message(b'Q', b"")),
        ("Parse", message(b'P', b"\0SELECT 1\0\0\0")),
        ("Parse COPYIN", message(b'P', b"\0COPYIN\0\0\0")),
        ("Parse without NUL", message(b'P', b"name")),
        ("Bind", message(b'B', b"\0\0\0\0\0\0\0\0")),
        ("Bind without Parse", message(b'B', b"\0nowhere\0\0\0\0\0\0\0")),
        ("Describe", message(b'D', b"P\0")),
        ("Execute", message(b'E', b"\0\0\0\0\0")),
        ("Close", message(b'C', b"S\0")),
        ("Flush", message(b'H', b"")),
        ("Sync", message(b'S', b"")),
        ("Sync with a body", message(b'S', b"body")),
        ("many Syncs", message(b'S', b"").repeat(200)),
        ("FunctionCall", message(b'F', b"\0\0\0\x01\0\0\0\0\0\0")),
        ("CopyData", message(b'd', b"row\n")),
        ("CopyDone", message(b'c', b"")),
        ("CopyFail", message(b'f', b"why\0")),
        ("Password", message(b'p', b"secret\0")),
        ("SASLInitialResponse", message(b'p', b"SCRAM-SHA-256\0\0\0\0\x20n,,n=,r=fyko+d2lbbFgONRv9qkxdawL")),
        ("Terminate", message(b'X', b"")),
        ("StartupMessage", packet(0x0003_0000, b"user\0bob\0database\0shop\0\0")),
        ("StartupMessage 3.2", packet(0x0003_0002, b"user\0bob\0database\0shop\0_pq_.x\0y\0\0")),
        ("StartupMessage of no user", packet(0x0003_0000, b"\0")),
        ("SSLRequest", packet(80_877_103, b"")),
        ("GSSENCRequest", packet(80_877_104, b"")),
        ("CancelRequest", packet(80_877_102, b"\x01\0\0\0abcd")),
        ("ReadyForQuery", message(b'Z', b"I")),
        ("unknown tag", message(b'?', b"\0")),
        ("tag 0", message(0, b"\0")),
    ]
});

/// What a server might say.
pub static BACKEND: LazyLock<Vec<Named>> = LazyLock::new(|| {
    let error = |severity: &str| {
        message(b'E', format!("S{severity}\0V{severity}\0C57P01\0Mthe server has had enough\0\0").as_bytes())
    };
    vec![
        ("AuthenticationOk", message(b'R', &[0; 4])),
        ("AuthenticationCleartextPassword", message(b'R', &[0, 0, 0, 3])),
        ("AuthenticationMD5Password", message(b'R', &[0, 0, 0, 5, 1, 2, 3, 4])),
        ("AuthenticationSASL", message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0")),
        ("AuthenticationSASLContinue", message(b'R', b"\0\0\0\x0br=a,s=c2FsdA==,i=1")),
        ("AuthenticationSASLFinal", message(b'R', b"\0\0\0\x0cv=AAAA")),
        ("Authentication cut short", message(b'R', &[0])),
        ("ParameterStatus", message(b'S', b"server_version\x0017.0\0")),
        ("ParameterStatus without NUL", message(b'S', b"name")),
        ("many ParameterStatus", message(b'S', b"name\0value\0").repeat(300)),
        ("BackendKeyData", message(b'K', &[1; 8])),
        ("BackendKeyData of 0 bytes", message(b'K', &[0; 4])),
        ("BackendKeyData of nothing", message(b'K', b"")),
        ("BackendKeyData of 257 bytes", message(b'K', &[1; 261])),
        ("NegotiateProtocolVersion", message(b'v', b"\0\x03\0\0\0\0\0\0")),
        ("ReadyForQuery", message(b'Z', b"I")),
        ("ReadyForQuery in a transaction", message(b'Z', b"T")),
        ("ReadyForQuery in a failed one", message(b'Z', b"E")),
        ("ReadyForQuery of odd status", message(b'Z', b"?")),
        ("ReadyForQuery without status", message(b'Z', b"")),
        ("ErrorResponse", error("ERROR")),
        ("ErrorResponse FATAL", error("FATAL")),
        ("ErrorResponse without fields", message(b'E', b"\0")),
        ("ErrorResponse of nothing", message(b'E', b"")),
        ("ErrorResponse without NUL", message(b'E', b"SFATAL")),
        ("NoticeResponse", message(b'N', b"SNOTICE\0\0")),
        ("NotificationResponse", message(b'A', b"\0\0\0\x01channel\0\0")),
        ("RowDescription", message(b'T', &[0, 0])),
        ("DataRow", message(b'D', &[0, 0])),
        ("a large DataRow", message(b'D', &[0; 70_000])),
        ("CommandComplete", message(b'C', b"SELECT 1\0")),
        ("EmptyQueryResponse", message(b'I', b"")),
        ("PortalSuspended", message(b's', b"")),
        ("NoData", message(b'n', b"")),
        ("ParameterDescription", message(b't', &[0, 0])),
        ("ParseComplete", message(b'1', b"")),
        ("BindComplete", message(b'2', b"")),
        ("CloseComplete", message(b'3', b"")),
        ("CopyInResponse", message(b'G', &[0, 0, 0])),
        ("CopyOutResponse", message(b'H', &[0, 0, 0])),
        ("CopyBothResponse", message(b'W', &[0, 0, 0])),
        ("CopyData", message(b'd', b"row\n")),
        ("CopyDone", message(b'c', b"")),
        ("FunctionCallResponse", message(b'V', &[0xff; 4])),
        ("unknown tag", message(b'?', b"\0")),
        ("tag 0", message(0, b"\0")),
    ]
});

/// What is done to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoiled {
    /// Nothing; the state may be the wrong one.
    Not,
    /// Its second half never comes.
    Truncated,
    /// Its length is less than the four bytes that it has itself.
    TooSmall,
    /// Its length says one byte less than there is.
    Short,
    /// Its length says 2^31 − 1.
    Huge,
    /// Its length is negative.
    Negative,
    /// It comes twice.
    Repeated,
}

impl Spoiled {
    /// All ways.
    pub const ALL: [Self; 7] =
        [Self::Not, Self::Truncated, Self::TooSmall, Self::Short, Self::Huge, Self::Negative, Self::Repeated];

    /// The bytes that are sent instead of `message`. `tagged`: its length follows a tag.
    #[must_use]
    pub fn spoil(self, message: &[u8], tagged: bool) -> Vec<u8> {
        let mut bytes = message.to_vec();
        let place = usize::from(tagged)..usize::from(tagged) + 4;
        let mut lengthen = |length: u32| {
            if let Some(place) = bytes.get_mut(place.clone()) {
                place.copy_from_slice(&length.to_be_bytes());
            }
        };
        let length = message
            .get(place.clone())
            .map_or(4, |length| length.iter().fold(0, |length: u32, byte| length << 8 | u32::from(*byte)));
        match self {
            Self::Not => {}
            Self::Truncated => bytes.truncate(message.len() / 2),
            Self::TooSmall => lengthen(3),
            Self::Short => lengthen(length - 1),
            Self::Huge => lengthen(0x7fff_ffff),
            Self::Negative => lengthen(u32::MAX),
            Self::Repeated => bytes.extend_from_slice(message),
        }
        bytes
    }
}

/// Whether a message of [`FRONTEND`] has a tag in front of its length.
#[must_use]
pub fn is_tagged(name: &str) -> bool {
    !name.ends_with("Request") && !name.starts_with("StartupMessage")
}
