//! Why a server connection stays with its client past the end of a transaction.

use crate::text::Effects;

/// Reasons why a server connection stays with its client past the end of a transaction, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pins(u16);

macro_rules! pins {
    ($($(#[$doc:meta])* $constant:ident = $bit:literal, $name:literal;)*) => {
        impl Pins {
            $($(#[$doc])* pub const $constant: Self = Self(1 << $bit);)*

            /// Every reason, and its name.
            pub(crate) const ALL: &[(Self, &str)] = &[$((Self::$constant, $name)),*];

            /// The names of all reasons, as console, metrics and errors say them.
            pub const NAMES: [&str; Self::COUNT] = [$($name),*];
        }
    };
}

pins! {
    /// Temporary tables, views, functions and whatever else is in the session's own schema.
    TEMP = 0, "temporary_objects";
    /// Advisory locks of the session.
    LOCKS = 1, "advisory_locks";
    /// Channels that it listens to.
    LISTENS = 2, "listen";
    /// Cursors declared `WITH HOLD`.
    CURSORS = 3, "held_cursors";
    /// Statements prepared by SQL.
    PREPARED = 4, "sql_prepare";
    /// Values of sequences that `currval` and `lastval` may ask for.
    SEQUENCE = 5, "sequence";
    /// A seed of `random()`.
    SEED = 6, "seed";
    /// A library that was loaded.
    LOADS = 7, "load";
    /// Settings that nobody can name, or what is not understood.
    OPAQUE = 8, "opaque";
}

impl Pins {
    /// How many reasons there are.
    pub const COUNT: usize = Self::ALL.len();

    /// None.
    pub(crate) const NONE: Self = Self(0);

    /// What a probe finds out, with the question that finds it out. Nothing in it depends on `search_path`.
    pub(super) const PROBED: [(Self, &'static str); 5] = [
        (
            Self::TEMP,
            "EXISTS (SELECT FROM pg_catalog.pg_depend \
             WHERE refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass \
             AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())",
        ),
        (
            Self::LOCKS,
            "EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'advisory' \
             AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid())",
        ),
        (Self::LISTENS, "EXISTS (SELECT FROM pg_catalog.pg_listening_channels())"),
        (Self::CURSORS, "EXISTS (SELECT FROM pg_catalog.pg_cursors WHERE is_holdable)"),
        (Self::PREPARED, "EXISTS (SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql)"),
    ];

    /// Those that nothing finds out: they hold from the statement on that may have brought them.
    pub(super) fn declared_by(effects: Effects) -> Self {
        let declared =
            [(Effects::SEED, Self::SEED), (Effects::LOADS, Self::LOADS), (Effects::OPAQUE, Self::OPAQUE)];
        let effects =
            if planted!(ComputedNameForgotten) { effects.without(Effects::OPAQUE) } else { effects };
        let found = declared.into_iter().filter(|(effect, _)| effects.any(*effect));
        found.fold(Self::NONE, |pins, (_, pin)| pins.with(pin))
    }

    /// Those that a probe must find out after these effects, in a session that has `self` already.
    pub(super) fn doubtful(self, effects: Effects) -> Self {
        let probed = [
            (Effects::TEMP, Self::TEMP),
            (Effects::LOCKS, Self::LOCKS),
            (Effects::LISTENS, Self::LISTENS),
            (Effects::CURSORS, Self::CURSORS),
            (Effects::PREPARES, Self::PREPARED),
        ];
        let found = probed.into_iter().filter(|(effect, pin)| effects.any(*effect) && !pin.is_forgotten());
        let mut doubtful = found.fold(Self::NONE, |pins, (_, pin)| pins.with(pin));
        // What drops an object of any kind says nothing of temporary ones.
        if effects.any(Effects::DDL) {
            doubtful = doubtful.with(self.and(Self::TEMP));
        }
        if effects.any(Effects::DEALLOCATES) {
            doubtful = doubtful.with(self.and(Self::PREPARED));
        }
        doubtful
    }

    /// Whether a planted bug has it forgotten.
    fn is_forgotten(self) -> bool {
        match self {
            Self::TEMP => planted!(TemporaryForgotten),
            Self::LOCKS => planted!(LocksForgotten),
            Self::LISTENS => planted!(ListensForgotten),
            Self::CURSORS => planted!(CursorsForgotten),
            _ => false,
        }
    }

    /// Whether there is no reason.
    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `pin` is among them.
    pub(crate) const fn has(self, pin: Self) -> bool {
        self.0 & pin.0 != 0
    }

    /// Those and `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those but for `other`.
    pub(crate) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Those that are among `other` as well.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The names of these.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::ALL.iter().filter(move |(pin, _)| self.has(*pin)).map(|(_, name)| *name)
    }
}
