//! The reference file, made from the table.

use headpond_core::PoolSettings;
use headpond_pooler::config::PoolMode;

use super::table::{Field, SETTINGS};
use super::{Config, Dialect, build};

const HEAD: &str = "\
# Headpond's configuration: every setting with its default. A file needs only what differs.
# A reload (SIGHUP, or RELOAD on the console) changes all but the settings marked [restart].
# Times are numbers with ms, s, m or h. Made from the table of settings; a test keeps the two equal.
";

/// The text of `reference.toml`: every setting with what it does and its default.
#[must_use]
pub fn reference() -> String {
    let mut config = Config::defaults(Dialect::Toml);
    let mut source = build::data_source("shop", PoolMode::Transaction, PoolSettings::named());
    source.tls = config.server_tls_mode;
    let [mut top, mut pool, mut of_source, mut application] = <[String; 4]>::default();
    let mut weight = 1;
    for setting in SETTINGS {
        let (block, slot) = match setting.field {
            Field::Top(field) => (&mut top, field(&mut config)),
            Field::Pool(field) => (&mut pool, field(&mut source.pool)),
            Field::Source(field) => (&mut of_source, field(&mut source)),
            Field::Application(field) => (&mut application, field(&mut weight)),
        };
        let restart = if setting.reload { "" } else { " [restart]" };
        block.push_str(&format!("\n# {}{restart}\n{} = {}\n", setting.doc, setting.name, slot.toml()));
    }
    format!(
        "{HEAD}{top}\n# The pool of every data source that does not say otherwise.\n[pool]\n{pool}\n\
         # What clients ask for as database. [data_source.\"*\"] stands for all names not listed; its pools are made\n\
         # on demand: max_size = 20, and nothing is opened before it is used. Every setting of [pool] may stand here too.\n\
         [data_source.shop]\n{of_source}\n\
         # Applications are told apart by the name that their clients log in with.\n\
         [application.till]\n{application}"
    )
}
