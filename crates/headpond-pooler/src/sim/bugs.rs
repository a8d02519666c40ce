//! The simulation proves itself: with a bug planted in the machine, some schedule must find it.

use std::cell::Cell;
use std::panic::catch_unwind;
use std::time::Instant;

use crate::sim::schedule;

/// What is wrong with the machine. Each is one `planted!` in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    AbortBlockForgotten,
    AbortedForgotten,
    CancelKeyUnchecked,
    CancelledAfterHandOver,
    ClosedBeforeFlush,
    CommitOfPipelineUnseen,
    ComputedNameForgotten,
    CursorsForgotten,
    DeadlinesForgotten,
    DeallocationForgotten,
    ErrandAnsweredToClient,
    ExecutedForgotten,
    GoodbyePassedOn,
    IdentityKeptByResetAll,
    LayerForgotten,
    LeaseKept,
    ListensForgotten,
    LocksForgotten,
    OneReplyTooManySwallowed,
    PermitLost,
    PipelineOutlivesError,
    PrefixUnguarded,
    ReadsWhileBlocked,
    RefusedTakenForSet,
    ReleasedInTransaction,
    ReleasedWithOneOutstanding,
    ResetForgotten,
    RestToWrongPeer,
    RoleBeforeSettings,
    RollbackForgotten,
    SecondSettingForgotten,
    SentTwice,
    SequencesUndiscarded,
    SettingsOfPredecessorStay,
    SettingsUnguarded,
    SettledForgotten,
    StartupParametersIgnored,
    SyncAnsweredTwice,
    TemporaryForgotten,
    TouchedForgotten,
    UnknownIsRolledBack,
    UnreadForgotten,
    WaiterForgotten,
}

const ALL: [Bug; 27] = [
    Bug::AbortBlockForgotten,
    Bug::AbortedForgotten,
    Bug::CancelKeyUnchecked,
    Bug::CancelledAfterHandOver,
    Bug::ClosedBeforeFlush,
    Bug::CommitOfPipelineUnseen,
    Bug::DeadlinesForgotten,
    Bug::ErrandAnsweredToClient,
    Bug::GoodbyePassedOn,
    Bug::LeaseKept,
    Bug::OneReplyTooManySwallowed,
    Bug::PermitLost,
    Bug::PipelineOutlivesError,
    Bug::ReadsWhileBlocked,
    Bug::ReleasedInTransaction,
    Bug::ReleasedWithOneOutstanding,
    Bug::ResetForgotten,
    Bug::RestToWrongPeer,
    Bug::RollbackForgotten,
    Bug::SentTwice,
    Bug::SettingsOfPredecessorStay,
    Bug::SettingsUnguarded,
    Bug::StartupParametersIgnored,
    Bug::SyncAnsweredTwice,
    Bug::UnknownIsRolledBack,
    Bug::UnreadForgotten,
    Bug::WaiterForgotten,
];

/// Schedules within which a bug must show.
const SCHEDULES: u64 = 5_000;

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

pub(crate) fn is_planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// The first schedule that fails once the bug is there.
fn found_by<R>(bug: Bug, run: fn(u64) -> R) -> Option<u64> {
    PLANTED.set(Some(bug));
    let found = (0..SCHEDULES).find(|seed| catch_unwind(|| run(*seed)).is_err());
    PLANTED.set(None);
    found
}

#[test]
fn every_planted_bug_is_found() {
    assert_found(&ALL, schedule::run);
}

/// Each of these shows in some schedule.
pub(crate) fn assert_found<R>(bugs: &[Bug], run: fn(u64) -> R) {
    let mut missed = Vec::new();
    for bug in bugs.iter().copied() {
        let begun = Instant::now();
        match found_by(bug, run) {
            Some(seed) => println!("{bug:?}: schedule {} ({:.1?})", seed + 1, begun.elapsed()),
            None => missed.push(bug),
        }
    }
    assert_eq!(missed, [], "not found in {SCHEDULES} schedules each");
}
