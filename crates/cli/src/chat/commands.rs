//! The commands of a chat: their names, arguments and help.

/// A command as it is written, what follows its name, and what it does.
pub struct Row {
    pub name: &'static str,
    pub argument: &'static str,
    help: &'static str,
    alias: &'static [&'static str],
}

const fn row(name: &'static str, argument: &'static str, help: &'static str) -> Row {
    Row { name, argument, help, alias: &[] }
}

/// Whether what follows a command is the name of a file.
pub fn takes_file(name: &str) -> bool {
    matches!(name, "/save" | "/load")
}

/// All commands. [`super::Chat`] carries them out.
pub const COMMANDS: &[Row] = &[
    row("/clear", "", "start a new conversation"),
    row("/retry", "", "answer the last message again"),
    row("/system", "[TEXT]", "set the system message, or remove it"),
    row("/set", "[NAME [VALUE]]", "list the options, reset one, or change one: /set temperature 0.5"),
    row("/save", "[--force] FILE", "save the conversation as JSON; --force replaces a file"),
    row("/load", "FILE", "continue a saved conversation"),
    row("/stats", "", "show statistics of the last answer, and the room left in the context"),
    row("/help", "", "show this list"),
    Row { alias: &["/exit", "/quit"], ..row("/bye", "", "exit, as /exit and Ctrl-D") },
];

/// What is no command.
const KEYS: &str = "\
Ctrl-C stops an answer. A line that ends with \\ goes on in the next one; \"\"\" begins and ends a text of several lines.
A message that begins with / needs a space before it.";

/// The command of this name; else the nearest name, if one is near.
pub fn find(name: &str) -> Result<&'static Row, Option<&'static str>> {
    let known = COMMANDS.iter().find(|row| row.name == name || row.alias.contains(&name));
    let names = || COMMANDS.iter().flat_map(|row| [row.name].into_iter().chain(row.alias.iter().copied()));
    known.ok_or_else(|| crate::near::best(name, names()))
}

pub fn help() -> String {
    let left = |row: &Row| format!("{} {}", row.name, row.argument);
    let width = COMMANDS.iter().map(|row| left(row).len()).max().unwrap_or(0);
    let mut text: String = COMMANDS.iter().map(|row| format!("{:width$}  {}\n", left(row), row.help)).collect();
    text.push_str(KEYS);
    text
}
