//! What a text may do, as bits.

use std::ops::{BitOr, BitOrAssign};

/// What a text may do to the session that runs it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Effects(pub(super) u32);

macro_rules! effects {
    ($($(#[$doc:meta])* $name:ident = $bit:literal;)*) => {
        impl Effects {
            $($(#[$doc])* pub(crate) const $name: Self = Self(1 << $bit);)*

            const NAMES: &[(Self, &str)] = &[$((Self::$name, stringify!($name))),*];
        }
    };
}

effects! {
    /// Makes or drops temporary objects: any CREATE may, for `search_path` may begin with `pg_temp`.
    TEMP = 0;
    /// Takes or gives back advisory locks of the session.
    LOCKS = 1;
    /// LISTEN, UNLISTEN.
    LISTENS = 2;
    /// Cursors that outlive their transaction: DECLARE … WITH HOLD, CLOSE.
    CURSORS = 3;
    /// PREPARE. What the prepared statement does is among the effects too.
    PREPARES = 4;
    /// EXECUTE, or a look at `pg_prepared_statements`. What the statement does was said when it was prepared.
    EXECUTES = 5;
    /// DEALLOCATE.
    DEALLOCATES = 6;
    /// May advance a sequence, or set it.
    CAN_NEXTVAL = 7;
    /// `currval` or `lastval`. The only effect that is not said in doubt: for it is not left behind.
    CURRVAL = 8;
    /// Seeds `random()`.
    SEED = 9;
    /// LOAD, or a library loaded by name.
    LOADS = 10;
    /// Sets or resets the settings that are named beside.
    SETTINGS = 11;
    /// Something goes back to its default: RESET, SET … TO DEFAULT, DISCARD ALL.
    RESETS = 12;
    /// RESET ALL, or DISCARD ALL.
    RESET_ALL = 13;
    /// DISCARD ALL.
    DISCARD_ALL = 14;
    /// May set settings that nobody can name, or do what no probe shows.
    OPAQUE = 15;
    /// The verdict may change.
    DDL = 16;
    /// It may change so that names do what is not known yet: new code, or new uses of what has effects.
    CODE = 17;
    /// Mentions `pg_settings`, or a view of it. UPDATE of that sets settings.
    SETTINGS_VIEW = 18;
}

impl Effects {
    /// None.
    pub(crate) const NONE: Self = Self(0);

    /// Whatever may be left behind by code that cannot be read.
    pub(crate) const ANYTHING: Self = Self(
        Self::TEMP.0
            | Self::LOCKS.0
            | Self::LISTENS.0
            | Self::CURSORS.0
            | Self::PREPARES.0
            | Self::EXECUTES.0
            | Self::DEALLOCATES.0
            | Self::CAN_NEXTVAL.0
            | Self::SEED.0
            | Self::LOADS.0
            | Self::OPAQUE.0
            | Self::DDL.0
            | Self::CODE.0,
    );

    /// Whether any of these is among them.
    pub(crate) const fn any(self, of: Self) -> bool {
        self.0 & of.0 != 0
    }

    /// Whether all of these are among them.
    pub(crate) const fn has(self, all: Self) -> bool {
        self.0 & all.0 == all.0
    }

    /// These but for those.
    pub(crate) const fn without(self, those: Self) -> Self {
        Self(self.0 & !those.0)
    }

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOr for Effects {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.and(other)
    }
}

impl BitOrAssign for Effects {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl std::fmt::Debug for Effects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> =
            Self::NAMES.iter().filter(|(effect, _)| self.has(*effect)).map(|(_, name)| *name).collect();
        write!(f, "{}", if names.is_empty() { "NONE".to_owned() } else { names.join(" | ") })
    }
}
