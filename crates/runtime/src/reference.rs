//! Renders a program's options as Markdown for the reference pages in `docs/`. The input is the
//! definition of the command line, so pages and program cannot disagree.
//!
//! Pure: reads neither the arguments nor the environment of the current process.

use clap::{Arg, Command};

/// Fills a cell without content.
const NOTHING: &str = "–";
const MEBIBYTE: u64 = 1 << 20;

/// A table of a program's settings: environment variable, option, default, description.
///
/// A secret has no option, so that it never shows in a process list. It comes from a variable, or
/// from a file named by a second variable that ends in `_FILE`; both share a row.
#[must_use]
pub fn settings(command: &Command) -> String {
    let mut command = command.clone();
    command.build();
    let rows = options(&command).map(|arg| {
        [variable(arg), spelling(arg), default(arg), description(arg)].map(|cell| escaped(&cell))
    });
    table(["Variable", "Option", "Default", "Description"], rows)
}

/// A section for each command of a program, with a table of its arguments.
#[must_use]
pub fn commands(command: &Command) -> String {
    let mut command = command.clone();
    command.build();
    let mut sections = Vec::new();
    collect(&command, command.get_name(), &mut sections);
    sections.join("\n")
}

fn collect(command: &Command, path: &str, sections: &mut Vec<String>) {
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let path = format!("{path} {}", sub.get_name());
        if sub.get_subcommands().next().is_some() {
            collect(sub, &path, sections);
            continue;
        }
        let about = sub.get_about().map(ToString::to_string).unwrap_or_default();
        let own = sub.get_positionals().chain(options(sub).filter(|arg| !arg.is_global_set()));
        let rows: Vec<_> = own
            .map(|arg| [spelling(arg), default(arg), description(arg)].map(|cell| escaped(&cell)))
            .collect();
        let mut section = format!("### `{path}`\n\n{about}.\n");
        if !rows.is_empty() {
            section += "\n";
            section += &table(["Argument", "Default", "Description"], rows.into_iter());
        }
        sections.push(section);
    }
}

/// Named options, except those that every program has.
fn options(command: &Command) -> impl Iterator<Item = &Arg> {
    let common = ["help", "version"];
    command
        .get_arguments()
        .filter(move |arg| !arg.is_positional() && !common.contains(&arg.get_id().as_str()))
}

fn variable(arg: &Arg) -> String {
    let Some(name) = arg.get_env().map(|name| name.to_string_lossy()) else {
        return NOTHING.to_owned();
    };
    match name.strip_suffix("_FILE") {
        Some(secret) => format!("`{secret}` or `{name}`"),
        None => format!("`{name}`"),
    }
}

fn spelling(arg: &Arg) -> String {
    let values = arg.get_value_names().unwrap_or_default();
    let takes_values = arg.get_action().takes_values();
    let values = values.iter().filter(|_| takes_values).map(|name| format!("<{name}>"));
    let words: Vec<_> =
        arg.get_long().map(|long| format!("--{long}")).into_iter().chain(values).collect();
    format!("`{}`", words.join(" "))
}

fn default(arg: &Arg) -> String {
    let values = arg.get_default_values().iter().map(|value| value.to_string_lossy());
    let value = values.collect::<Vec<_>>().join(",");
    if arg.is_required_set() {
        return "required".to_owned();
    }
    if value.is_empty() || arg.is_hide_default_value_set() {
        return NOTHING.to_owned();
    }
    let is_bytes = arg.get_id().as_str().ends_with("_bytes");
    match value.parse::<u64>() {
        Ok(bytes) if is_bytes && bytes.is_multiple_of(MEBIBYTE) => {
            format!("`{value}` ({} MiB)", bytes / MEBIBYTE)
        }
        _ => format!("`{value}`"),
    }
}

fn description(arg: &Arg) -> String {
    let mut text = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let words: Vec<_> = arg
        .get_possible_values()
        .iter()
        .filter(|_| arg.get_action().takes_values())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if !words.is_empty() {
        text = format!("{text}; one of {}", words.join(", "));
    }
    text
}

/// An unescaped bar would end the cell.
fn escaped(cell: &str) -> String {
    cell.replace('|', "\\|")
}

fn table<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let line = |cells: &[String; N]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(&head.map(str::to_owned));
    text += &format!("|{}\n", "---|".repeat(N));
    rows.for_each(|row| text += &line(&row));
    text
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser};

    use super::*;

    #[derive(Parser)]
    #[command(name = "program")]
    #[allow(dead_code, reason = "only its definition is of interest")]
    struct Program {
        /// Where to listen
        #[arg(long, env = "LISTEN", default_value = "127.0.0.1:1")]
        listen: String,
        /// File with the token, instead of TOKEN
        #[arg(long, env = "TOKEN_FILE")]
        token_file: Option<String>,
        /// A limit
        #[arg(long, env = "MOST_BYTES", default_value_t = 8 << 20)]
        most_bytes: u64,
        /// Be generous
        #[arg(long, env = "GENEROUS")]
        generous: bool,
        #[command(subcommand)]
        command: Verb,
    }

    #[derive(clap::Subcommand)]
    enum Verb {
        /// Go somewhere
        Go {
            /// How
            #[arg(long, value_parser = ["on-foot", "by-train"])]
            how: String,
            /// Where to
            place: String,
        },
        /// Stay
        Stay,
    }

    #[test]
    fn settings_are_a_row_each_and_a_secret_shares_its_row_with_its_file() {
        assert_eq!(
            settings(&Program::command()),
            "\
| Variable | Option | Default | Description |
|---|---|---|---|
| `LISTEN` | `--listen <LISTEN>` | `127.0.0.1:1` | Where to listen |
| `TOKEN` or `TOKEN_FILE` | `--token-file <TOKEN_FILE>` | – | File with the token, instead of TOKEN |
| `MOST_BYTES` | `--most-bytes <MOST_BYTES>` | `8388608` (8 MiB) | A limit |
| `GENEROUS` | `--generous` | `false` | Be generous |
"
        );
    }

    #[test]
    fn commands_are_a_section_each() {
        assert_eq!(
            commands(&Program::command()),
            "\
### `program go`

Go somewhere.

| Argument | Default | Description |
|---|---|---|
| `<PLACE>` | required | Where to |
| `--how <HOW>` | required | How; one of `on-foot`, `by-train` |

### `program stay`

Stay.
"
        );
    }
}
