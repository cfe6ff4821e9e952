//! What the integration tests share. The most ordinary test starts the built binary on a database of its own, on each of
//! SQLite, PostgreSQL and MariaDB, and asks it something:
//!
//! ```text
//! on_each_database! {
//!     async fn support_may_not_erase_patients(app: TestApp) {
//!         app.import_example();
//!         let support = app.sign_in("support").await;
//!         let id = support.graphql("{ patients(first: 1) { nodes { id } } }").await["patients"]["nodes"][0]["id"].take();
//!         let input = json!({"id": id, "version": 1, "reason": "requested"});
//!         support.expect_mutation_error("erasePatient", input, "FORBIDDEN").await;
//!     }
//! }
//! ```
//!
//! - [`on_each_database!`] makes a test for each database; [`with_app!`] runs one on a single database.
//! - [`TestApp`] is the hospital H1, its database and a running server. It has a member of staff of every role, whose
//!   login is the role in lower case and whose password is [`PASSWORD`].
//! - [`Client`] sends GraphQL as one of them: `graphql` and `mutate` return data and fail on errors; `expect_error` and
//!   `expect_mutation_error` check the error's code; `graphql_response` and `mutation_response` return everything.
//!   Every response is checked against the GraphQL specification ([`conformance`]).
//!
//! A test binary that uses a database calls [`cleanup_after_tests!`] once in its root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod app;
mod check;
pub mod cleanup;
pub mod conformance;
mod template;

pub use app::*;
pub use check::{Checked, Violation};
pub use cleanup::report_skipped;

/// Runs `test`, an `async |app: &TestApp|`, on one database. A database that does not answer is reported and skipped; in
/// CI that is a failure.
#[macro_export]
macro_rules! with_app {
    // Cargo sets the variable only for integration tests of the package that has the binary.
    ($kind:expr, $test:expr) => {
        $crate::with_app(env!("CARGO_BIN_EXE_rollcall"), $kind, $test)
    };
}

/// Makes a test on each database of every `async fn name(app: TestApp)`.
#[macro_export]
macro_rules! on_each_database {
    ($($(#[$meta:meta])* async fn $name:ident($app:ident: TestApp) $body:block)+) => {$(
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            async fn run($app: &$crate::TestApp) $body

            #[tokio::test(flavor = "multi_thread")]
            async fn sqlite() {
                $crate::with_app!($crate::DatabaseKind::Sqlite, async |app| run(app).await).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn postgres() {
                $crate::with_app!($crate::DatabaseKind::Postgres, async |app| run(app).await).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn mariadb() {
                $crate::with_app!($crate::DatabaseKind::Mariadb, async |app| run(app).await).await;
            }
        }
    )+};
}
