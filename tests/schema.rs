//! schema.graphql is up to date, and everything in it has a description.
#![allow(clippy::unwrap_used)]

#[test]
fn the_schema_file_is_up_to_date() {
    let file = include_str!("../schema.graphql");
    assert!(
        file == rollcall::graphql::sdl(),
        "schema.graphql is stale: run `cargo run -- schema > schema.graphql`"
    );
}

#[test]
fn everything_has_a_description() {
    let mut bare = Vec::new();
    let (mut in_description, mut described) = (false, false);
    let sdl = rollcall::graphql::sdl();
    for line in sdl.lines().map(str::trim) {
        let marks = line.matches("\"\"\"").count();
        if in_description || marks > 0 {
            in_description = in_description != (marks == 1);
            described = true;
        } else if !line.is_empty() {
            let needs_none = line.starts_with(['}', ')'])
                || ["schema", "query:", "mutation:", "subscription:", "directive"]
                    .iter()
                    .any(|word| line.starts_with(word));
            if !described && !needs_none {
                bare.push(line);
            }
            described = false;
        }
    }
    assert_eq!(bare, Vec::<&str>::new());
}
