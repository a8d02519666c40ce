//! Every command against everybody: the list of commands is the test's, so none can be forgotten.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use headpond_pooler::config::AuthMethod;
use mio::{Poll, Token, Waker};

use super::conversation::{Client, connect_to, error, kinds, message, startup};
use super::made_up;
use crate::console::commands::{Argument, COMMANDS, Command, Does};
use crate::control::Control;
use crate::worker::handle::{Command as Order, Mailbox, Workers};

/// A console with a worker that shows figures and counts what else it is told.
struct Stage {
    control: Arc<Control>,
    workers: Workers,
    requests: tokio::sync::mpsc::Receiver<crate::control::Shutdown>,
    orders: Arc<AtomicUsize>,
    /// The mailbox wakes this.
    _poll: Poll,
}

impl Stage {
    fn new(auth: AuthMethod) -> Self {
        let poll = Poll::new().unwrap();
        let (mailbox, received) = Mailbox::new(Arc::new(Waker::new(poll.registry(), Token(0)).unwrap()));
        let orders = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&orders);
        thread::spawn(move || {
            while let Ok(order) = received.recv() {
                match order {
                    Order::Snapshot { reply, .. } => drop(reply.send(made_up::snapshot())),
                    _ => drop(counted.fetch_add(1, Ordering::Relaxed)),
                }
            }
        });
        let workers = Workers::new(Arc::new([mailbox]));
        let (control, requests) = Control::new(workers.clone(), Arc::new(made_up::config(auth)), [7; 32]);
        Self { control, workers, requests, orders, _poll: poll }
    }

    fn connect(&self, user: &str) -> Client {
        connect_to(Arc::clone(&self.control), true, startup(3 << 16, &[("user", user)]))
    }

    /// How many orders the worker has had.
    async fn orders(&self) -> usize {
        // It is through with those when it answers this.
        let _ = self.workers.snapshot(false).await;
        self.orders.load(Ordering::Relaxed)
    }

    /// Whether nothing was changed, nor the end of the process asked for.
    async fn is_untouched(&mut self) -> bool {
        self.orders().await == 0 && self.requests.try_recv().is_err()
    }
}

/// The forms in which a command can be sent.
fn statements(command: &Command) -> Vec<String> {
    let name = command.name;
    let mut forms = vec![name.to_owned(), format!("{};", name.to_lowercase()), format!("/* */ {name}")];
    match command.argument {
        Argument::DataSource => forms.push(format!("{name} shop")),
        Argument::Assignment => forms.push(format!("{name} max_client_conn = 7")),
        Argument::Any => forms.push(format!("{name} 1")),
        Argument::None => {}
    }
    forms
}

#[tokio::test]
async fn a_viewer_changes_nothing_by_any_command_in_either_protocol() {
    let mut stage = Stage::new(AuthMethod::Trust);
    let mut viewer = stage.connect("stan");
    viewer.answer().await;
    for command in COMMANDS {
        for statement in statements(command) {
            let simple = viewer.query(&statement).await;
            let parse = message(b'P', format!("\0{statement}\0\0\0").as_bytes());
            let bind = message(b'B', b"\0\0\0\0\0\0\0\0");
            let execute = message(b'E', b"\0\0\0\0\0");
            viewer.send(&[parse, bind, execute, message(b'S', b"")].concat()).await;
            for answer in [simple, viewer.answer().await] {
                let looks = !matches!(command.does, Does::Act(_) | Does::Refuse(_));
                assert_eq!(command.is_for_all(), looks, "{statement}");
                let refused = kinds(&answer).contains('E');
                if statement.starts_with("/*") {
                    assert!(refused, "{statement}");
                } else if looks {
                    assert!(!refused, "{statement}: {:?}", error(&answer));
                } else {
                    assert_eq!(error(&answer).1, "42501", "{statement}");
                }
            }
            assert!(stage.is_untouched().await, "{statement}");
        }
    }
}

#[tokio::test]
async fn nobody_changes_or_sees_anything_by_any_command() {
    for (auth, sqlstate) in [(AuthMethod::Trust, "28000"), (AuthMethod::Password, "08P01")] {
        let mut stage = Stage::new(auth);
        for command in COMMANDS {
            for statement in statements(command) {
                // A user who is not listed; and one who is, but sends commands where a password is asked for.
                let user = if auth == AuthMethod::Trust { "eve" } else { "ann" };
                let mut nobody = stage.connect(user);
                nobody.send(&message(b'Q', format!("{statement}\0").as_bytes())).await;
                let answer = nobody.answer().await;
                assert_eq!(error(&answer).1, sqlstate, "{statement}");
                assert!(!kinds(&answer).contains(['T', 'D', 'C', 'Z']), "{statement}");
                assert!(stage.is_untouched().await, "{statement}");
            }
        }
    }
}

#[tokio::test]
async fn an_administrator_may_use_every_command() {
    for command in COMMANDS {
        let stage = Stage::new(AuthMethod::Trust);
        let mut admin = stage.connect("ann");
        admin.answer().await;
        // A pause lasts until its pools are empty, and those here never are.
        if command.name == "PAUSE" {
            continue;
        }
        let answer = admin.query(command.name).await;
        let refusal = kinds(&answer).contains('E').then(|| error(&answer).1);
        assert_ne!(refusal.as_deref(), Some("42501"), "{}", command.name);
        if matches!(command.does, Does::Act(_)) && command.argument == Argument::DataSource {
            assert!(stage.orders().await > 0, "{}", command.name);
        }
    }
}
