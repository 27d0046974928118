//! Does one piece of work once, for a tool that counts instructions; without a name, says which
//! there are.

use std::process::ExitCode;

use tracelift_bench::work::{self, Fault};

fn main() -> ExitCode {
    match run(std::env::args().nth(1).as_deref()) {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(name: Option<&str>) -> Result<String, Fault> {
    let all = work::all()?;
    let Some(name) = name else {
        return Ok(all.iter().map(|work| work.name).collect::<Vec<_>>().join("\n"));
    };
    let work = all.iter().find(|work| work.name == name).ok_or("there is no such work")?;
    measured(work)
}

/// The only function whose instructions are counted.
#[inline(never)]
fn measured(work: &work::Work) -> Result<String, Fault> {
    (work.run)().map(|made| made.to_string())
}
