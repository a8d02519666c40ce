//! Writes the seeds of every body to a folder, as corpora for the fuzz targets.
//!
//! usage: corpus FOLDER

use std::path::PathBuf;

use headpond_testkit::BODIES;

fn main() -> std::io::Result<()> {
    let folder: PathBuf =
        std::env::args_os().nth(1).ok_or(std::io::Error::other("usage: corpus FOLDER"))?.into();
    for body in BODIES {
        let folder = folder.join(body.name);
        std::fs::create_dir_all(&folder)?;
        for (number, seed) in (body.seeds)().into_iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number}")), seed)?;
        }
    }
    Ok(())
}
