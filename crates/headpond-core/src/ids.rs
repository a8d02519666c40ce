//! Names of things that come and go: an index that is reused, and a generation that is not.

macro_rules! id {
    ($name:ident, $what:literal) => {
        #[doc = $what]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name {
            pub(crate) index: u32,
            pub(crate) generation: u32,
        }

        impl $name {
            /// Place in its table: small, and reused after the thing is gone.
            #[must_use]
            pub fn index(self) -> usize {
                self.index as usize
            }
        }
    };
}

id!(ConnId, "A connection of one pool, in whatever state.");
impl ConnId {
    /// Names no connection of any pool: nothing is known of it, and nothing happens to it.
    pub const NONE: Self = Self { index: u32::MAX, generation: u32::MAX };
}

/// A queued request of one pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaiterId {
    pub(crate) application: u32,
    pub(crate) number: u32,
}

impl WaiterId {
    /// Names no request of any pool.
    pub const NONE: Self = Self { application: u32::MAX, number: u32::MAX };
}
