//! Bugs.
use std::cell::Cell;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    AbsenceIsSaved,
    AuthenticationTriedOn,
    BrokenTestEvicts,
    ClosedBeforeReplaced,
    ClosingUncounted,
    EndOfLeakUntold,
    FreshForgotten,
    GrantsWhileSuspended,
    HeadroomTimesOut,
    LastComeFirstServed,
    LevelsOverlap,
    LoginsUnlimited,
    MaxIdleBelowMinSize,
    NewcomerOvertakes,
    OutdatedIdleStay,
    ShrinksAll,
    TestCountsAsUse,
    TrustsForEver,
    WeightsIgnored,
    WithdrawalUncounted,
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

pub(crate) fn is_planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}
