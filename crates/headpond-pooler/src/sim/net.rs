//! One direction of a connection: what is sent arrives later, in order, in pieces cut anywhere.

use std::collections::VecDeque;

use crate::sim::dice::Dice;
use crate::sim::marked::Marked;

/// How a direction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// After everything that was sent.
    Orderly,
    /// At once: what was on its way is lost.
    Reset,
}

/// What networks do to bytes.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    /// Longest piece; longer sends are cut.
    pub(crate) piece: u64,
    /// Longest delay, in nanoseconds.
    pub(crate) delay: u64,
    /// Smallest and largest room of a direction, in bytes.
    pub(crate) room: (u64, u64),
}

#[derive(Debug)]
pub(crate) struct Pipe {
    flying: VecDeque<(u64, Marked)>,
    flying_bytes: usize,
    /// Here, and not read yet.
    pub(crate) arrived: Marked,
    room: usize,
    /// For a while there is no room at all.
    pub(crate) stalled: bool,
    last_arrival: u64,
    /// The writer has sent its last.
    pub(crate) finished: bool,
    /// The reader finds this behind the bytes that arrived.
    pub(crate) ended: Option<End>,
}

impl Pipe {
    pub(crate) fn new(weather: &Weather, dice: &mut Dice) -> Self {
        Self {
            flying: VecDeque::new(),
            flying_bytes: 0,
            arrived: Marked::default(),
            room: dice.between(weather.room.0, weather.room.1) as usize,
            stalled: false,
            last_arrival: 0,
            finished: false,
            ended: None,
        }
    }

    /// Sends as much from the front of `bytes` as there is room for. Returns when the pieces arrive.
    pub(crate) fn send(
        &mut self,
        now: u64,
        bytes: &mut Marked,
        weather: &Weather,
        dice: &mut Dice,
    ) -> Vec<u64> {
        let mut arrivals = Vec::new();
        if self.finished {
            bytes.clear();
            return arrivals;
        }
        let room = if self.stalled { 0 } else { self.room };
        let room = room.saturating_sub(self.flying_bytes + self.arrived.len());
        let mut sending = bytes.take(room);
        // However small pieces are, a large message is not cut into more than some forty.
        let most = weather.piece.max(sending.len() as u64 / 20);
        while !sending.is_empty() {
            let piece = sending.take(dice.between(1, most) as usize);
            self.flying_bytes += piece.len();
            arrivals.push(self.fly(now, piece, weather, dice));
        }
        arrivals
    }

    /// Ends the direction; returns when the end arrives.
    pub(crate) fn finish(&mut self, now: u64, weather: &Weather, dice: &mut Dice) -> Option<u64> {
        (!std::mem::replace(&mut self.finished, true))
            .then(|| self.fly(now, Marked::default(), weather, dice))
    }

    /// Breaks the direction at once.
    pub(crate) fn reset(&mut self) {
        self.finished = true;
        self.flying.clear();
        self.flying_bytes = 0;
        self.arrived.clear();
        self.ended = Some(End::Reset);
    }

    fn fly(&mut self, now: u64, piece: Marked, weather: &Weather, dice: &mut Dice) -> u64 {
        self.last_arrival = self.last_arrival.max(now + dice.skewed(weather.delay));
        self.flying.push_back((self.last_arrival, piece));
        self.last_arrival
    }

    /// What is due arrives. Whether anything did.
    pub(crate) fn arrive(&mut self, now: u64) -> bool {
        let mut any = false;
        while self.flying.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, piece)) = self.flying.pop_front() else { break };
            any = true;
            self.flying_bytes -= piece.len();
            if piece.is_empty() {
                self.ended = Some(End::Orderly);
            }
            self.arrived.append(&piece);
        }
        any
    }
}
