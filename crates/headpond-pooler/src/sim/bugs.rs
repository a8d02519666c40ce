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
    DeadlinesForgotten,
    ErrandAnsweredToClient,
    GoodbyePassedOn,
    LeaseKept,
    OneReplyTooManySwallowed,
    PermitLost,
    PipelineOutlivesError,
    ReadsWhileBlocked,
    ReleasedInTransaction,
    ReleasedWithOneOutstanding,
    ResetForgotten,
    RestToWrongPeer,
    RollbackForgotten,
    SentTwice,
    SettingsOfPredecessorStay,
    SettingsUnguarded,
    StartupParametersIgnored,
    SyncAnsweredTwice,
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
fn found_by(bug: Bug) -> Option<u64> {
    PLANTED.set(Some(bug));
    let found = (0..SCHEDULES).find(|seed| catch_unwind(|| schedule::run(*seed)).is_err());
    PLANTED.set(None);
    found
}

#[test]
fn every_planted_bug_is_found() {
    let mut missed = Vec::new();
    for bug in ALL {
        let begun = Instant::now();
        match found_by(bug) {
            Some(seed) => println!("{bug:?}: schedule {} ({:.1?})", seed + 1, begun.elapsed()),
            None => missed.push(bug),
        }
    }
    assert_eq!(missed, [], "not found in {SCHEDULES} schedules each");
}
