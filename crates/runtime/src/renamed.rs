//! Renamed settings and metrics. The old name keeps working for one release, with a warning.

use std::{env, ffi::OsString};

use clap::Command;

/// A renamed setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Id of its field in the settings.
    pub id: &'static str,
    /// The old option, without dashes.
    pub old_flag: &'static str,
    /// The old environment variable.
    pub old_env: &'static str,
    /// The new environment variable.
    pub new_env: &'static str,
}

/// A renamed counter. Both names are counted for one release.
#[derive(Debug, Clone, Copy)]
pub struct Counter {
    /// Old name.
    pub old: &'static str,
    /// New name.
    pub new: &'static str,
}

impl Counter {
    /// Increments both counters.
    pub fn increment(self, by: u64) {
        metrics::counter!(self.new).increment(by);
        metrics::counter!(self.old).increment(by);
    }
}

/// Makes a command accept the old names too. If both variables are set, the new one wins.
#[must_use]
pub fn accept(command: Command, settings: &[Setting]) -> Command {
    accept_from(command, settings, |name| env::var_os(name))
}

fn accept_from(
    command: Command,
    settings: &[Setting],
    variable: impl Fn(&str) -> Option<OsString>,
) -> Command {
    settings.iter().fold(command, |command, setting| {
        let only_old = variable(setting.new_env).is_none() && variable(setting.old_env).is_some();
        command.mut_arg(setting.id, |arg| {
            let arg = arg.alias(setting.old_flag);
            if only_old { arg.env(setting.old_env) } else { arg }
        })
    })
}

/// Warns about every old variable that is set.
pub fn warn(settings: &[Setting]) {
    for Setting { old_env, new_env, .. } in settings {
        if env::var_os(old_env).is_some() {
            tracing::warn!("{old_env} is now called {new_env}; the next release ignores {old_env}");
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    const SLOTS: Setting =
        Setting { id: "slots", old_flag: "max-runs", old_env: "OLD_RUNS", new_env: "NEW_SLOTS" };

    /// The variable that a command would read, if those in `set` are set.
    fn read(set: &[&str], words: &[&str]) -> (String, Option<String>) {
        let command =
            Command::new("program").arg(Arg::new("slots").long("slots").env(SLOTS.new_env));
        let command =
            accept_from(command, &[SLOTS], |name| set.contains(&name).then(|| OsString::from("7")));
        let arg = command.get_arguments().next().unwrap();
        let env = arg.get_env().unwrap().to_string_lossy().into_owned();
        let matches = command.get_matches_from([&["program"], words].concat());
        (env, matches.get_one::<String>("slots").cloned())
    }

    #[test]
    fn the_old_variable_counts_only_where_the_new_one_is_not_set() {
        assert_eq!(read(&[], &[]).0, "NEW_SLOTS");
        assert_eq!(read(&["OLD_RUNS"], &[]).0, "OLD_RUNS");
        assert_eq!(read(&["NEW_SLOTS"], &[]).0, "NEW_SLOTS");
        assert_eq!(read(&["OLD_RUNS", "NEW_SLOTS"], &[]).0, "NEW_SLOTS");
    }

    #[test]
    fn both_flags_are_taken() {
        for flag in ["--slots", "--max-runs"] {
            assert_eq!(read(&[], &[flag, "3"]).1.as_deref(), Some("3"));
        }
    }
}
