//! schema.graphql is what the code prints, and everything in it is described.
#![allow(clippy::unwrap_used)]

#[test]
fn the_schema_file_is_current() {
    let file = include_str!("../schema.graphql");
    assert!(
        file == rollcall::graphql::sdl(),
        "schema.graphql is stale: run `cargo run -- schema > schema.graphql`"
    );
}

#[test]
fn everything_is_described() {
    let sdl = rollcall::graphql::sdl();
    let lines: Vec<&str> = sdl.lines().map(str::trim).collect();
    // A definition, a field or a value stands under the end of its description.
    let bare: Vec<&str> = lines
        .windows(2)
        .filter(|pair| !pair[1].is_empty() && !pair[1].starts_with(['"', '}', ')', '#']))
        .filter(|pair| !pair[0].ends_with("\"\"\"") && (pair[0].is_empty() || pair[0].ends_with(['{', '}']) || pair[0].contains(':')))
        .map(|pair| pair[1])
        .filter(|line| !line.starts_with("schema ") && !line.starts_with("query:") && !line.starts_with("mutation:"))
        .filter(|line| !line.starts_with("directive "))
        .collect();
    assert_eq!(bare, Vec::<&str>::new());
}
