//! `./test miri`

use std::pin::{Pin, pin};
use std::sync::Mutex;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Wake, Waker};
use std::thread;

use headpond_core::WaiterId;

use super::*;

struct Woken(AtomicU32);

impl Wake for Woken {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

fn waker() -> (std::sync::Arc<Woken>, Waker) {
    let woken = std::sync::Arc::new(Woken(AtomicU32::new(0)));
    (woken.clone(), woken.into())
}

fn post<T: Default>(node: Pin<&mut Node<T>>) -> Posted<T> {
    node.post(Waker::noop().clone()).expect("it is new")
}

#[test]
fn who_is_served_has_the_outcome_once() {
    let mut queue = Queue::new();
    let mut node = pin!(Node::new());
    let (woken, waker) = waker();
    let number = queue.next();
    queue.join(node.as_mut().post(waker).unwrap(), WaiterId::NONE);
    assert!(node.is_queued());
    assert_eq!(node.as_mut().take(), None);
    queue.serve(number, Some(Box::new(7))).unwrap().wake();
    assert!(!node.is_queued());
    assert_eq!((node.as_mut().take(), node.as_mut().take()), (Some(Some(Box::new(7))), None));
    assert_eq!(woken.0.load(SeqCst), 1);
}

#[test]
fn who_was_posted_is_not_posted_again_before_it_is_served() {
    let mut node = pin!(Node::new());
    let posted = post(node.as_mut());
    assert!(node.as_mut().post(Waker::noop().clone()).is_none());
    node.as_mut().finish();
    assert!(node.is_away() && !node.is_queued());
    drop(posted.serve(7));
    assert_eq!(node.as_mut().take(), Some(7));
    drop(post(node.as_mut()).serve(8));
    assert_eq!(node.as_mut().take(), Some(8));
}

struct Parcel(u32, AtomicPtr<()>);

impl Postable for Parcel {
    fn below(&self) -> &AtomicPtr<()> {
        &self.1
    }
}

fn parcel(number: u32) -> Entry<u32, Parcel> {
    Entry::Return(Box::new(Parcel(number, AtomicPtr::default())))
}

#[test]
fn what_is_posted_is_taken_in_its_order() {
    let inbox = Inbox::<u32, Parcel>::new();
    let mut node = pin!(Node::new());
    assert!(inbox.is_empty());
    inbox.post(parcel(1));
    inbox.post(Entry::Request(post(node.as_mut())));
    inbox.post(parcel(3));
    assert!(inbox.may_be_left());
    let mut order = Vec::new();
    for entry in inbox.take() {
        match entry {
            Entry::Return(parcel) => order.push(parcel.0),
            Entry::Request(posted) => {
                order.push(2);
                drop(posted.serve(20));
            }
        }
    }
    assert_eq!(order, [1, 2, 3]);
    assert_eq!(node.as_mut().take(), Some(20));
    assert!(!inbox.may_be_left());
    assert!(inbox.take().next().is_none());
}

#[test]
fn who_posts_or_unlocks_serves_what_others_posted() {
    let (inbox, lock) = (Inbox::<u32, Parcel>::new(), Latch::new(0_u32));
    let serve = || {
        while inbox.may_be_left()
            && let Some(mut sum) = lock.try_lock()
        {
            for entry in inbox.take() {
                match entry {
                    Entry::Return(parcel) => *sum += parcel.0,
                    Entry::Request(posted) => drop(posted.serve(*sum)),
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..30 {
                    let mut node = pin!(Node::new());
                    inbox.post(parcel(1));
                    serve();
                    inbox.post(Entry::Request(post(node.as_mut())));
                    serve();
                    // Nobody is to be needed again.
                    while node.is_away() {
                        thread::yield_now();
                    }
                    assert!(node.as_mut().take().is_some_and(|sum| sum > 0));
                }
            });
        }
    });
    assert_eq!(*lock.try_lock().unwrap(), 60);
}

#[test]
fn who_left_is_not_served_and_its_number_is_used_again() {
    let mut queue = Queue::new();
    let number = queue.next();
    {
        let mut node = pin!(Node::new());
        queue.join(post(node.as_mut()), WaiterId::NONE);
        assert_eq!(queue.leave(number), Some(WaiterId::NONE));
    }
    assert_eq!(queue.leave(number), None);
    assert_eq!(queue.serve(number, "late").unwrap_err(), "late");
    assert_eq!(queue.next(), number);
}

#[test]
fn an_outcome_that_nobody_takes_is_dropped() {
    let outcome = std::sync::Arc::new(());
    let mut queue = Queue::new();
    {
        let mut node = pin!(Node::new());
        let number = queue.next();
        queue.join(post(node.as_mut()), WaiterId::NONE);
        assert!(queue.serve(number, Some(outcome.clone())).is_ok());
        assert_eq!(std::sync::Arc::strong_count(&outcome), 2);
    }
    assert_eq!(std::sync::Arc::strong_count(&outcome), 1);
}

#[test]
fn the_last_waker_is_called() {
    let mut queue = Queue::new();
    let mut node = pin!(Node::new());
    let ((first, one), (second, other)) = (waker(), waker());
    let number = queue.next();
    queue.join(node.as_mut().post(one).unwrap(), WaiterId::NONE);
    queue.renew(number, &other);
    queue.serve(number, ()).unwrap().wake();
    assert_eq!((first.0.load(SeqCst), second.0.load(SeqCst)), (0, 1));
}

#[test]
fn nodes_of_two_threads_are_served_by_each_other() {
    let queue = Mutex::new(Queue::new());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for turn in 0..50 {
                    let mut node = pin!(Node::new());
                    let number = {
                        let mut queue = queue.lock().unwrap();
                        let number = queue.next();
                        queue.join(post(node.as_mut()), WaiterId::NONE);
                        number
                    };
                    if turn % 3 == 0 {
                        let mut queue = queue.lock().unwrap();
                        if node.is_queued() {
                            queue.leave(number);
                        }
                        continue;
                    }
                    // Whoever waits is served, by number: oneself at last.
                    while node.is_queued() {
                        let mut queue = queue.lock().unwrap();
                        for number in 0..2 {
                            let _ = queue.serve(number, Some(Box::new(turn)));
                        }
                    }
                    assert!(node.as_mut().take().flatten().is_some());
                }
            });
        }
    });
}

#[test]
fn a_latch_lets_in_one_at_a_time() {
    let latch = Latch::new(0_u32);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..100).for_each(|_| *latch.lock() += 1));
        }
    });
    let held = latch.try_lock().unwrap();
    assert_eq!(*held, 200);
    assert!(latch.try_lock().is_none());
}

#[test]
fn a_static_reference_is_swapped_while_others_read_it() {
    static NAMES: [&str; 2] = ["one", "two"];
    let name = StaticRef::new();
    assert_eq!(name.get(), None);
    thread::scope(|scope| {
        scope.spawn(|| (0..100).for_each(|turn| name.set(Some(&NAMES[turn % 2]))));
        scope.spawn(|| (0..100).for_each(|_| assert!(name.get().is_none_or(|name| NAMES.contains(name)))));
    });
}
