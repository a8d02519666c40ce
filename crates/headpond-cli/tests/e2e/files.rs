//! What happens where no more files can be opened.

use headpond_embedded::{Options, Postgres};
use tokio_postgres::{Config, NoTls};

use crate::program::{Program, run};

/// Nobody tells a second time that they have come.
#[test]
fn who_came_while_no_file_was_free_comes_in_once_one_is_and_the_log_says_it_once() {
    run(async {
        let server = Postgres::start(Options::default()).unwrap();
        let program = Program::serve_with_files(&server, 64).await;
        let silent: Vec<_> = (0..100).map(|_| program.connection()).collect();
        program.until_logged("cannot be accepted", 1).await;
        let late = program.connection();
        late.set_nonblocking(true).unwrap();
        drop(silent);
        let late = tokio::net::TcpStream::from_std(late).unwrap();
        let (client, connection) =
            Config::new().user("somebody").dbname("postgres").connect_raw(late, NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute("SELECT 1").await.unwrap();
        assert_eq!(program.logged("cannot be accepted").len(), 1);
    });
}
