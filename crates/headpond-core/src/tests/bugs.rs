//! The suite proves itself: with a bug planted in the machine, random steps or a claim must find it.

use std::cell::Cell;
use std::panic::catch_unwind;

use super::{claims, steps};

/// What is wrong with the machine. Each is one `planted!` in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    AbsenceIsSaved,
    AlarmsForEver,
    AuthenticationTriedOn,
    BrokenTestEvicts,
    CeilingForEver,
    ClosedBeforeReplaced,
    ClosingUncounted,
    DeadlinesForgotten,
    EndOfLeakUntold,
    FirstLoginInCompany,
    FreshForgotten,
    GrantsWhileSuspended,
    HeadroomTimesOut,
    LastComeFirstServed,
    LevelsOverlap,
    LoginsUnlimited,
    MaxIdleBelowMinSize,
    NewcomerOvertakes,
    OldestFirstServed,
    OutdatedIdleStay,
    ReclaimUntold,
    RetestedWhenIdleOnly,
    ShrinksAll,
    TestCountsAsUse,
    TrustsForEver,
    WaitsBesideIdle,
    WeightsIgnored,
    WindowNeverOpens,
    WithdrawalUncounted,
}

/// Bugs that break a rule of the model, and so are found by chance.
const BY_STEPS: [Bug; 21] = [
    Bug::AbsenceIsSaved,
    Bug::AuthenticationTriedOn,
    Bug::ClosingUncounted,
    Bug::DeadlinesForgotten,
    Bug::EndOfLeakUntold,
    Bug::FirstLoginInCompany,
    Bug::FreshForgotten,
    Bug::GrantsWhileSuspended,
    Bug::HeadroomTimesOut,
    Bug::LastComeFirstServed,
    Bug::LevelsOverlap,
    Bug::LoginsUnlimited,
    Bug::MaxIdleBelowMinSize,
    Bug::OldestFirstServed,
    Bug::OutdatedIdleStay,
    Bug::ReclaimUntold,
    Bug::TestCountsAsUse,
    Bug::TrustsForEver,
    Bug::WaitsBesideIdle,
    Bug::WeightsIgnored,
    Bug::WithdrawalUncounted,
];

/// Bugs that break no rule, and are merely not what was promised: each with the claim that it breaks.
const BY_CLAIM: [(Bug, fn()); 11] = [
    (Bug::AbsenceIsSaved, claims::waiting::an_application_that_was_away_gains_nothing),
    (Bug::AlarmsForEver, claims::alarms::an_alarm_of_rates_ends_by_itself_when_nobody_asks_any_more),
    (Bug::BrokenTestEvicts, claims::checks::a_test_that_breaks_later_asks_one_fresh_connection_and_keeps_all),
    (Bug::CeilingForEver, claims::logins::too_many_connections_lower_the_ceiling_which_rises_again),
    (Bug::ClosedBeforeReplaced, claims::lifetime::with_room_the_replacement_is_there_before_the_old_one_goes),
    (Bug::NewcomerOvertakes, claims::waiting::a_newcomer_never_overtakes),
    (
        Bug::OldestFirstServed,
        claims::fairness::beside_a_noisy_application_the_others_wait_at_most_twice_as_long,
    ),
    (Bug::RetestedWhenIdleOnly, claims::checks::a_broken_test_is_tried_again_though_all_are_busy),
    (Bug::ShrinksAll, claims::size::shrinking_halves_what_was_never_needed),
    (Bug::WeightsIgnored, claims::waiting::grants_follow_the_weights),
    (Bug::WindowNeverOpens, claims::logins::after_success_logins_in_flight_double_again),
];

/// Random steps within which a bug must show.
const STEPS: u64 = 200_000;

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

pub(crate) fn is_planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

fn random_steps() {
    steps::run(1, STEPS);
}

/// Whether a check fails once the bug is there.
fn finds(bug: Bug, check: fn()) -> bool {
    PLANTED.set(Some(bug));
    let found = catch_unwind(check).is_err();
    PLANTED.set(None);
    found
}

#[test]
fn random_steps_find_every_bug_that_breaks_a_rule() {
    let missed: Vec<_> = BY_STEPS.into_iter().filter(|bug| !finds(*bug, random_steps)).collect();
    assert_eq!(missed, []);
}

#[test]
fn claims_find_every_other_bug() {
    let missed: Vec<_> =
        BY_CLAIM.into_iter().filter(|(bug, claim)| !finds(*bug, *claim)).map(|(bug, _)| bug).collect();
    assert_eq!(missed, []);
}
