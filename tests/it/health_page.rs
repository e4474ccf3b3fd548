//! The SQL of `docs/health.md`, run over a file that `JsonLines` has written.

use matrix_analytics::{
    AnalyticsEvent, Backend as _, JsonLines, OutgoingEvent, Properties,
    element::{Error, ErrorDomain, ErrorName},
    testing,
};
use rusqlite::{Connection, Row};

const NEVER: i64 = -1;

fn unreadable(name: ErrorName, time: i64) -> OutgoingEvent {
    let error = Error::new(ErrorDomain::E2ee, name).time_to_decrypt_millis(time);
    testing::event(Error::NAME, Properties::from_serialize(&error).unwrap())
}

/// Returns the SQL of the page: the tables, the causes, and the weeks.
fn statements() -> [&'static str; 3] {
    let page = include_str!("../../docs/health.md");
    let blocks = page.split("```sql\n").skip(1).map(|block| block.split("```").next().unwrap());
    blocks.collect::<Vec<_>>().try_into().unwrap()
}

fn rows<T>(
    database: &Connection,
    query: &str,
    read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
) -> Vec<T> {
    let mut statement = database.prepare(query).unwrap();
    statement.query_map([], |row| read(row)).unwrap().map(Result::unwrap).collect()
}

#[tokio::test]
async fn the_queries_of_the_page_count_causes_and_accounts() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.jsonl");
    let file = tokio::fs::File::create(&path).await.unwrap();
    let lines = JsonLines::new(file);
    let never = unreadable(ErrorName::OlmKeysNotSentError, NEVER);
    let late = unreadable(ErrorName::OlmKeysNotSentError, 5_000);
    let expected = unreadable(ErrorName::ExpectedDueToMembership, NEVER);
    let other = testing::event("CallStarted", Properties::new());
    for (account, events) in [
        // Sent again, because the answer was lost.
        ("alice", vec![never.clone(), late.clone()]),
        ("alice", vec![never, late]),
        ("bob", vec![expected]),
        ("carol", vec![other.clone()]),
        ("dan", vec![other]),
    ] {
        lines.send(&testing::batch(account, events)).await.unwrap();
    }

    let [tables, causes, weeks] = statements();
    let database = Connection::open_in_memory().unwrap();
    database.execute_batch(tables).unwrap();
    let file = std::fs::read_to_string(&path).unwrap();
    // The last line is of a process that was killed.
    for line in file.lines().chain([r#"{"event":"Err"#]) {
        database.execute("INSERT INTO lines VALUES (?)", [line]).unwrap();
    }

    let causes = rows(&database, causes, |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get(2)?, row.get(3)?))
    });
    assert!(causes.contains(&("OlmKeysNotSentError".to_owned(), 1, 1, 1)), "{causes:?}");
    assert!(causes.contains(&("ExpectedDueToMembership".to_owned(), 1, 0, 1)), "{causes:?}");
    assert_eq!(causes.len(), 2);
    let weeks = rows(&database, weeks, |row| Ok((row.get::<_, String>(0)?, row.get(1)?)));
    assert_eq!(weeks, [("2026-04".to_owned(), 25.0)]);
}
