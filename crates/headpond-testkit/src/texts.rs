//! Readers of text: users, configurations, the console.

use std::path::Path;

use headpond_server::config::{Config, Diagnostic};
use headpond_server::fuzzing::{console_statement, hba_rules, users_file};

/// A folder in which there is nothing.
const NOWHERE: &str = "/nonexistent";

pub(crate) fn users(input: &[u8]) {
    users_file(&String::from_utf8_lossy(input));
}

pub(crate) fn hba(input: &[u8]) {
    hba_rules(&String::from_utf8_lossy(input));
}

pub(crate) fn hba_seeds() -> Vec<Vec<u8>> {
    seeds(&[
        "# TYPE DATABASE USER ADDRESS METHOD\nlocal all all peer map=staff\nhost shop,\"a b\" ann , bob 10.0.0.0/8 md5\n\
         hostssl sameuser all ::1/128 scram-sha-256\nhost replication rep samehost reject\nhost all all all trust\n",
        "staff joe ann\nstaff \"root\" all\n",
        "host all \\\n all 192.0.2.0 255.255.255.0 password # here\nhostnossl @tills \"all\" samenet plain\n",
    ])
}

pub(crate) fn console(input: &[u8]) {
    console_statement(&String::from_utf8_lossy(input));
}

pub(crate) fn toml(input: &[u8]) {
    configuration(&String::from_utf8_lossy(input), Config::parse_toml);
}

pub(crate) fn ini(input: &[u8]) {
    configuration(&String::from_utf8_lossy(input), Config::parse_ini);
}

pub(crate) fn connection_string(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let line = text.lines().next().unwrap_or("");
    configuration(&format!("[databases]\nshop = {line}\n"), Config::parse_ini);
}

type Parse = fn(&str, &str, &Path) -> Result<Config, Vec<Diagnostic>>;

fn configuration(text: &str, parse: Parse) {
    // No file of this machine is to be read.
    if text.contains('/') && ["include", "auth", "file"].iter().any(|word| text.contains(word)) {
        return;
    }
    match parse("it", text, Path::new(NOWHERE)) {
        Ok(config) => {
            assert!(!config.listen.is_empty());
            assert!(config.settings().iter().all(|row| !row.key.is_empty()));
            assert!(config.needs_restart(&config).is_empty());
            assert_eq!(parse("it", text, Path::new(NOWHERE)).as_ref(), Ok(&config), "the same twice");
        }
        Err(errors) => {
            assert!(!errors.is_empty() && errors.iter().all(|error| error.to_string().starts_with("it:")));
        }
    }
}

fn seeds(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

pub(crate) fn users_seeds() -> Vec<Vec<u8>> {
    seeds(&[
        "\"ann\" \"secret\"\n; nobody\n\"bob\" \"md50123456789abcdef0123456789abcdef\"\n",
        "\"eve\" \"\"\n\"a\"\"b\" \"x\"\"y\" rest\n",
        "\"sam\" \"SCRAM-SHA-256$4096:c2FsdCBhbmQgcGVwcGVyIQ==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:\
         AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"\n",
    ])
}

pub(crate) fn console_seeds() -> Vec<Vec<u8>> {
    seeds(&[
        "SHOW POOLS;",
        "show \"marks\" -- all of them\n;",
        "PAUSE \"a \"\"b\"\"\";",
        "SET max_size = '20'",
        "KILL shop",
        "SHUTDOWN WAIT_FOR_CLIENTS",
        "select version",
    ])
}

pub(crate) fn toml_seeds() -> Vec<Vec<u8>> {
    seeds(&[
        "listen = [\"127.0.0.1:6432\"]\nworkers = 2\npool_mode = \"transaction\"\n[pool]\nmax_size = 20\nmin_idle = 2\n\
         acquire_timeout = \"1m 30s\"\n[data_source.shop]\nhost = \"db.example\"\nport = 5432\ndatabase = \"shop\"\n\
         user = \"app\"\npassword = \"secret\"\nmax_size = 5\n[data_source.\"*\"]\nhost = \"127.0.0.1\"\n",
        "auth_type = \"trust\"\nadmin_users = [\"root\"]\nmembers = 2\nbudget = 50\n[application.batch]\nweight = 3\n\
         [data_source.a]\nhost = \"::1\"\n",
    ])
}

pub(crate) fn ini_seeds() -> Vec<Vec<u8>> {
    seeds(&[
        "[databases]\nshop = host=127.0.0.1 port=5432 dbname=shop user=app password='it''s' pool_size=5\n\
         * = host=db.example\n[pgbouncer]\nlisten_addr = *\nlisten_port = 6432\nauth_type = trust\n\
         pool_mode = transaction\nmax_client_conn = 100\ndefault_pool_size = 20\nserver_idle_timeout = 600\n",
        ";comment\n[databases]\n\"a b\" = host=localhost\n[users]\nbatch = max_user_connections=5\n[pgbouncer]\n\
         ignore_startup_parameters = extra_float_digits\nserver_check_query = select 1\n",
    ])
}

pub(crate) fn connection_string_seeds() -> Vec<Vec<u8>> {
    seeds(&[
        "host=127.0.0.1 port=5432 dbname=shop user=app password=secret",
        "host = 'db.example' password = 'a ''quoted'' one' pool_mode=session min_pool_size=1 reserve_pool=2",
        "host=::1 connect_query='select 1' client_encoding=UTF8 max_db_connections=9 timezone=UTC datestyle=ISO",
    ])
}

/// The first byte says how they are read.
pub(crate) fn statement_seeds() -> Vec<Vec<u8>> {
    seeds(&[
        "0select \"a\".b, $1::text from t where c = 'x' and d > 1.5e3 -- e\n limit 1;",
        "1SET SESSION app.\"Tenant\" TO 'a\\'b', E'c'\n'd'; RESET ALL; SET TIME ZONE LOCAL; set local x = default",
        "2select set_config('a.b', f(1, x[2]), false), set_config($1, 'b', true) /* c /* d */ e */",
        "0DO $a$ BEGIN <<l>> IF x THEN SET y = 1; ELSE EXECUTE 'z'; END IF; LOOP LISTEN n; END LOOP; END $a$",
        "0do language 'plpgsql' 'begin perform pg_advisory_lock(1), nextval(s); end'",
        "0insert /* a */ into t default values; select 1 into u; declare c cursor with hold for execute p",
        "0create trigger t after update on u execute function f(); create or replace function g() as $$ x $$",
        "0DEALLOCATE PREPARE \"p\"\"q\"; discard temp; prepare p(int) as update pg_settings set a = b'01'",
        "3select U&\"d\\0061t\", u&'\\0441', n'x', e'\\'', x'1f' ; unlisten *; close all",
        "4select '\u{95}\u{5c}' || $_$ $ $1 $_$ @-1 */ 2 +--x\n3; alter extension e update; load 'l'",
        "6DISCARD ALL",
    ])
}
