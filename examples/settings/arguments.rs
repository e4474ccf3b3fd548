//! The command line.

use std::path::PathBuf;

use clap::Parser;
use matrix_analytics::ELEMENT_EVENT_TYPE;
use matrix_analytics_examples::secret;

const EXIT_CODES: &str = "\
Exit codes:
  0  success, even if the terminal was closed
  1  failure; see the message
  2  invalid arguments, or there is no terminal
  3  the homeserver refused the login
  4  the server cannot be reached, or is not a homeserver";

/// Show the analytics settings of a Matrix account
///
/// Without arguments, the page shows two devices of one account on a homeserver and a collector
/// in this process.
#[derive(Debug, Parser)]
#[command(name = "settings", after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    /// Base URL of a real homeserver, such as https://matrix.example.org
    #[arg(long, value_name = "URL", requires = "user")]
    pub(crate) homeserver: Option<String>,
    /// Log in as this user, and log out at the end
    #[arg(long, requires_all = ["homeserver", "password"])]
    pub(crate) user: Option<String>,
    /// The user's password; `-` reads a line from standard input
    #[arg(long, requires = "user", value_parser = secret)]
    pub(crate) password: Option<String>,
    /// Append the events to this file; by default, there is no recipient
    #[arg(long, value_name = "FILE", requires = "homeserver")]
    pub(crate) events: Option<PathBuf>,
    /// Submit bug reports to this rageshake server, such as https://rageshake.example.org/api/submit
    #[arg(long, value_name = "URL", requires = "homeserver")]
    pub(crate) bug_reports: Option<String>,
    /// Type of the account-data event that stores the decision
    #[arg(long, value_name = "TYPE", requires = "homeserver", default_value = ELEMENT_EVENT_TYPE)]
    pub(crate) event_type: String,
    /// Timeout of a request to the homeserver, in seconds. A new ID settles for twice this time,
    /// so no app of the account should use a longer timeout
    #[arg(long, value_name = "SECONDS", requires = "homeserver", default_value_t = 3,
        value_parser = clap::value_parser!(u64).range(1..=10))]
    pub(crate) request_timeout: u64,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_valid() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_homeserver_needs_a_user_and_a_user_needs_a_password() {
        for (arguments, accepted) in [
            (&["settings"][..], true),
            (&["settings", "--homeserver", "http://x"], false),
            (&["settings", "--homeserver", "http://x", "--user", "a"], false),
            (&["settings", "--user", "a", "--password", "b"], false),
            (&["settings", "--events", "c"], false),
            (&["settings", "--bug-reports", "http://x"], false),
            (&["settings", "--homeserver", "http://x", "--user", "a", "--password", "b"], true),
        ] {
            assert_eq!(Arguments::try_parse_from(arguments).is_ok(), accepted, "{arguments:?}");
        }
    }
}
