//! The sockets of a worker, found by the machine's names for them.

use std::collections::HashMap;

use headpond_pooler::Link;

use super::socket::Conn;

/// Clients and servers by index, cancels by name: they are few.
#[derive(Default)]
pub(crate) struct Conns {
    clients: Vec<Option<Conn>>,
    servers: Vec<Option<Conn>>,
    cancels: HashMap<Link, Conn>,
}

impl Conns {
    pub(crate) fn insert(&mut self, conn: Conn) {
        let link = conn.link;
        let (table, index) = match link {
            Link::Client(id) => (&mut self.clients, id.index()),
            Link::Server(id) => (&mut self.servers, id.index()),
            Link::Cancel(_) => {
                self.cancels.insert(link, conn);
                return;
            }
        };
        if table.len() <= index {
            table.resize_with(index + 1, || None);
        }
        table[index] = Some(conn);
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, link: Link) -> Option<&mut Conn> {
        let conn = match link {
            Link::Client(id) => self.clients.get_mut(id.index())?.as_mut(),
            Link::Server(id) => self.servers.get_mut(id.index())?.as_mut(),
            Link::Cancel(_) => self.cancels.get_mut(&link),
        };
        conn.filter(|conn| conn.link == link)
    }

    pub(crate) fn remove(&mut self, link: Link) -> Option<Conn> {
        self.get_mut(link)?;
        match link {
            Link::Client(id) => self.clients.get_mut(id.index())?.take(),
            Link::Server(id) => self.servers.get_mut(id.index())?.take(),
            Link::Cancel(_) => self.cancels.remove(&link),
        }
    }
}
