//! Codes of visits: issued, and used once to confirm and check in; refusals tell nothing apart.

use futures_util::future::join_all;
use serde_json::{Value, json};
use test_support::{Client, DatabaseKind, TestApp, error, on_each_database};

use crate::erasure::holding;

const BEFORE: &str = "2025-05-09T00:30:00Z";
/// 2025-05-11, 09:30 in Seoul.
const NOW: &str = "2025-05-11T00:30:00Z";
const SHOWN: &str = "visit { startsAt date status doctorName departmentName patientName }";

/// Imports visits of Ann Ash: number, date, status. Imported ones do not lapse.
fn import(app: &TestApp, visits: &[(&str, &str, &str)]) {
    app.import("patients", "H1", "chart_no,name\nA,Ann Ash\nB,Bea Birch\n");
    let row = |(number, date, status): &(&str, &str, &str)| {
        let patient = if *number == "erased" { "B" } else { "A" };
        format!("{number},{patient},{date},{date}T10:00:00+09:00,{status},Eyes,Dr Ito\n")
    };
    let rows: String = visits.iter().map(row).collect();
    app.import(
        "visits",
        "H1",
        &format!("visit_no,chart_no,date,scheduled_at,status,department,doctor\n{rows}"),
    );
}

async fn visit(user: &Client<'_>, number: &str) -> Value {
    let mut visits = user
        .graphql("{ visits(first: 100) { nodes { id visitNo version status patient { id version } } } }")
        .await;
    let nodes = visits["visits"]["nodes"].as_array_mut().unwrap();
    let found = nodes.iter_mut().find(|node| node["visitNo"] == number);
    found.unwrap_or_else(|| panic!("no visit {number}")).take()
}

async fn issue(user: &Client<'_>, number: &str, purpose: &str) -> String {
    let input = json!({"visitId": visit(user, number).await["id"], "purpose": purpose});
    let issued = user.mutate("issueVisitCode", input, "code").await;
    issued["code"].as_str().unwrap().to_owned()
}

fn invalid() -> (String, String) {
    error("INVALID_CODE", "input.code")
}

fn instant(app: &TestApp, at: &str) -> String {
    match app.kind() {
        DatabaseKind::Mariadb => at.replace('T', " ").replace('Z', ""),
        DatabaseKind::Sqlite | DatabaseKind::Postgres => at.replace('Z', "+00:00"),
    }
}

on_each_database! {
    async fn a_kiosk_confirms_and_checks_in_by_code(app: TestApp) {
        app.set_time(NOW);
        import(app, &[("1", "2025-05-12", "TENTATIVE")]);
        let (front_desk, kiosk, admin) = (app.sign_in("desk").await, app.sign_in("kiosk").await, app.sign_in("admin").await);
        let id = visit(&front_desk, "1").await["id"].take();
        let issued = front_desk.mutate("issueVisitCode", json!({"visitId": id, "purpose": "CONFIRM"}), "code expiresAt").await;
        let confirm = issued["code"].as_str().unwrap().to_owned();
        assert_eq!(confirm.len(), 32, "{confirm}");
        assert_eq!(issued["expiresAt"], "2025-05-12T15:00:00Z", "the end of its day");
        let typed = confirm.to_lowercase().replace('-', " ").replace('0', "o").replace('1', "l");
        let shown = kiosk.mutate("confirmVisit", json!({"code": typed}), SHOWN).await;
        assert_eq!(shown["visit"], json!({"startsAt": "2025-05-12T01:00:00Z", "date": "2025-05-12", "status": "BOOKED",
            "doctorName": "Dr Ito", "departmentName": "Eyes", "patientName": "A** A**"}));
        let issued = front_desk.mutate("issueVisitCode", json!({"visitId": id, "purpose": "CHECK_IN"}), "code expiresAt").await;
        let check_in = issued["code"].as_str().unwrap().to_owned();
        assert_eq!(issued["expiresAt"], "2025-05-13T03:00:00Z", "12 hours after the end of its day");
        assert_eq!(kiosk.mutation_error("checkInVisit", json!({"code": check_in})).await, invalid(), "on the day before");
        app.set_time("2025-05-11T15:00:00Z");
        // Names are masked for every role.
        let shown = admin.mutate("checkInVisit", json!({"code": check_in}), SHOWN).await;
        assert_eq!((&shown["visit"]["status"], &shown["visit"]["patientName"]), (&json!("CHECKED_IN"), &json!("A** A**")));
        let changed = visit(&front_desk, "1").await;
        assert_eq!((&changed["status"], &changed["version"]), (&json!("CHECKED_IN"), &json!(3)));
        let noted = format!("SELECT COUNT(*) FROM visit WHERE checked_in_at = '{}' AND expires_at IS NULL", instant(app, "2025-05-11T15:00:00Z"));
        assert_eq!(app.query_number(&noted).await, 1);

        // Beyond the range of a TIMESTAMP of MariaDB.
        let far = json!({"patientId": changed["patient"]["id"], "scheduledAt": "2199-01-02T01:00:00Z", "status": "TENTATIVE", "visitNo": "far"});
        front_desk.mutate("recordVisit", far, "visit { id }").await;
        app.execute(&format!("UPDATE visit SET scheduled_at = '{}' WHERE visit_no = 'far'", instant(app, "2199-01-02T01:00:00Z"))).await;
        let code = issue(&front_desk, "far", "CONFIRM").await;
        let shown = kiosk.mutate("confirmVisit", json!({"code": code}), "visit { startsAt status }").await;
        assert_eq!(shown["visit"], json!({"startsAt": "2199-01-02T01:00:00Z", "status": "BOOKED"}));

        // The audit names who used a code, and whose it was; the codes are nowhere.
        let audit = admin.graphql("{ audit(first: 100, filter: {actions: [CHANGED]}) { nodes { what staff { login } patientIds } } }").await;
        let entries: Vec<_> = audit["audit"]["nodes"].as_array().unwrap().iter().skip(3).take(4)
            .map(|entry| (entry["what"].as_str().unwrap(), entry["staff"]["login"].as_str().unwrap(), entry["patientIds"][0].clone()))
            .collect();
        let patient = &changed["patient"]["id"];
        assert_eq!(entries, [("checkInVisit", "admin"), ("issueVisitCode", "desk"), ("confirmVisit", "kiosk"), ("issueVisitCode", "desk")]
            .map(|(what, login)| (what, login, patient.clone())));
        for code in [&confirm, &check_in] {
            for text in [code.clone(), code.replace('-', "")] {
                assert_eq!(holding(app, &text).await, Vec::<String>::new());
            }
        }
    }

    async fn all_refusals_are_alike(app: TestApp) {
        app.set_time(BEFORE);
        let future = ["used", "void", "purpose", "canceled", "booked", "deleted", "erased", "lapsed"];
        let mut visits: Vec<_> = future.map(|number| (number, "2025-05-12", "TENTATIVE")).to_vec();
        visits.extend([
            ("ended", "2025-05-09", "TENTATIVE"), ("tentative", "2025-05-11", "TENTATIVE"), ("early", "2025-05-12", "BOOKED"),
            ("late", "2025-05-09", "BOOKED"), ("moved", "2025-05-11", "BOOKED"), ("again", "2025-05-11", "BOOKED"),
        ]);
        import(app, &visits);
        let (front_desk, kiosk) = (app.sign_in("desk").await, app.sign_in("kiosk").await);
        app.execute(&format!("UPDATE visit SET expires_at = '{}' WHERE visit_no = 'lapsed'", instant(app, NOW))).await;
        let mut codes = vec![("confirmVisit", "nobody's", "00000-00000-00000-00000-00000-00".to_owned())];
        for malformed in ["", "0", "CONFIRM", "00000-00000-00000-00000-00000-01", "\u{0}\u{fffd}"] {
            codes.push(("checkInVisit", malformed, malformed.to_owned()));
        }
        codes.push(("confirmVisit", "long", "0".repeat(10_000)));
        for number in future.into_iter().chain(["ended"]) {
            codes.push(("confirmVisit", number, issue(&front_desk, number, "CONFIRM").await));
        }
        for number in ["tentative", "early", "late", "moved", "again"] {
            codes.push(("checkInVisit", number, issue(&front_desk, number, "CHECK_IN").await));
        }
        codes.push(("checkInVisit", "purpose", codes.iter().find(|(_, what, _)| *what == "purpose").unwrap().2.clone()));
        let other = app.other_hospital().await;
        app.import("patients", "H2", "chart_no,name\nX,Otto Other\n");
        app.import("visits", "H2", "visit_no,chart_no,date,status\nX,X,2025-05-12,TENTATIVE\n");
        codes.push(("confirmVisit", "foreign", issue(&other, "X", "CONFIRM").await));

        app.set_time(NOW);
        let code = |what: &str| codes.iter().find(|(_, name, _)| *name == what).unwrap().2.clone();
        kiosk.mutate("confirmVisit", json!({"code": code("used")}), "visit { status }").await;
        kiosk.mutate("checkInVisit", json!({"code": code("again")}), "visit { status }").await;
        issue(&front_desk, "void", "CONFIRM").await;
        for (number, change) in [
            ("canceled", json!({"status": "CANCELED"})), ("booked", json!({"status": "BOOKED"})), ("moved", json!({"date": "2025-05-14"})),
            // Checked in once, and changed back by mistake: the code stays used.
            ("again", json!({"status": "BOOKED"})),
        ] {
            let row = visit(&front_desk, number).await;
            let mut input = json!({"id": row["id"], "version": row["version"]});
            input.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            front_desk.mutate("changeVisit", input, "visit { id }").await;
        }
        let row = visit(&front_desk, "deleted").await;
        front_desk.mutate("deleteVisit", json!({"id": row["id"], "version": row["version"], "reason": "r"}), "visit { id }").await;
        let patient = visit(&front_desk, "erased").await["patient"].take();
        front_desk.mutate("erasePatient", json!({"id": patient["id"], "version": patient["version"], "reason": "r"}), "patient { id }").await;

        // The booking that has lapsed is canceled by itself.
        let state = async || (
            app.query_value::<i64>("SELECT COUNT(*) FROM visit_code WHERE used_at IS NOT NULL").await,
            app.query_value::<i64>("SELECT COUNT(*) FROM visit WHERE version = 1 AND visit_no <> 'lapsed'").await,
        );
        let before_all = state().await;
        let mut first: Option<(Value, u64)> = None;
        // The valid code of "purpose" is used for another purpose; it is used for its own one last.
        codes.retain(|(mutation, what, _)| (*mutation, *what) != ("confirmVisit", "purpose"));
        assert_eq!(codes.len(), 22);
        for (mutation, what, code) in &codes {
            let query = format!("mutation ($input: VisitCodeInput!) {{ used: {mutation}(input: $input) {{ {SHOWN} }} }}");
            let before = app.metric("rollcall_database_statements_total").await;
            let response = kiosk.graphql_response(&query, json!({"input": {"code": code}})).await;
            let statements = app.metric("rollcall_database_statements_total").await - before;
            assert_eq!(response["errors"][0]["extensions"], json!({"argument": "input.code", "code": "INVALID_CODE"}), "{what}: {response}");
            let (body, expected) = first.get_or_insert_with(|| (response.clone(), statements));
            assert_eq!((&response, statements), (&*body, *expected), "{what}");
        }
        assert_eq!(state().await, before_all, "nothing was changed");
        // In a hospital that never issued a code, too.
        let third = "hospital add --code H3 --name Three --time-zone Asia/Seoul";
        app.run_cli(&third.split(' ').collect::<Vec<_>>());
        let staff = "staff add --hospital H3 --login kiosk --name Kiosk --role KIOSK";
        app.run_cli_with_input(&staff.split(' ').collect::<Vec<_>>(), test_support::PASSWORD);
        let elsewhere = app.sign_in_at(app.base(), "H3", "kiosk").await;
        let valid = codes.iter().find(|(_, what, _)| *what == "purpose").unwrap().2.clone();
        assert_eq!(elsewhere.mutation_error("confirmVisit", json!({"code": valid})).await, invalid());
        kiosk.mutate("confirmVisit", json!({"code": valid}), "visit { status }").await;
    }

    async fn requests_are_repeated_with_their_key(app: TestApp) {
        app.set_time(NOW);
        import(app, &[("1", "2025-05-12", "TENTATIVE")]);
        let (front_desk, kiosk) = (app.sign_in("desk").await, app.sign_in("kiosk").await);
        let id = visit(&front_desk, "1").await["id"].take();
        let issue = |key: &str| json!({"visitId": id, "purpose": "CONFIRM", "idempotencyKey": key});
        let first = front_desk.mutate("issueVisitCode", issue("a"), "code expiresAt").await;
        assert_eq!(front_desk.mutate("issueVisitCode", issue("a"), "code expiresAt").await, first);
        app.run_cli(&["keys", "rotate"]);
        let other = app.second_server();
        let elsewhere = app.sign_in_at(&other.base, "H1", "desk").await;
        assert_eq!(elsewhere.mutate("issueVisitCode", issue("a"), "code expiresAt").await, first);
        let second = front_desk.mutate("issueVisitCode", issue("b"), "code expiresAt").await;
        assert_ne!(second["code"], first["code"]);
        let purpose = json!({"visitId": id, "purpose": "CHECK_IN", "idempotencyKey": "a"});
        assert_eq!(front_desk.mutation_error("issueVisitCode", purpose).await, error("BAD_USER_INPUT", "input.idempotencyKey"));
        // It tells the first one again, which is void.
        assert_eq!(front_desk.mutate("issueVisitCode", issue("a"), "code expiresAt").await, first);
        assert_eq!(kiosk.mutation_error("confirmVisit", json!({"code": first["code"]})).await, invalid());
        let confirm = |key: &str| json!({"code": second["code"], "idempotencyKey": key});
        let confirmed = kiosk.mutate("confirmVisit", confirm("c"), SHOWN).await;
        assert_eq!(kiosk.mutate("confirmVisit", confirm("c"), SHOWN).await, confirmed);
        assert_eq!(kiosk.mutation_error("confirmVisit", confirm("d")).await, invalid());
        assert_eq!(visit(&front_desk, "1").await["version"], 2, "changed once");
        // Codes survive the loss of the old key.
        app.run_cli(&["keys", "drop-old"]);
        let other = app.second_server();
        let elsewhere = app.sign_in_at(&other.base, "H1", "desk").await;
        let issued = elsewhere.mutate("issueVisitCode", json!({"visitId": id, "purpose": "CHECK_IN"}), "code").await;
        app.set_time("2025-05-12T00:30:00Z");
        elsewhere.mutate("checkInVisit", json!({"code": issued["code"]}), "visit { status }").await;
    }

    async fn codes_that_would_be_of_no_use_are_not_issued(app: TestApp) {
        app.set_time(NOW);
        import(app, &[
            ("booked", "2025-05-12", "BOOKED"), ("canceled", "2025-05-12", "CANCELED"), ("checked in", "2025-05-11", "CHECKED_IN"),
            ("past", "2025-05-09", "BOOKED"), ("tentative", "2025-05-10", "TENTATIVE"), ("lapsed", "2025-05-12", "TENTATIVE"),
            ("erased", "2025-05-12", "BOOKED"), ("deleted", "2025-05-12", "BOOKED"),
        ]);
        app.execute(&format!("UPDATE visit SET expires_at = '{}' WHERE visit_no = 'lapsed'", instant(app, NOW))).await;
        let front_desk = app.sign_in("desk").await;
        let deleted = visit(&front_desk, "deleted").await;
        front_desk.mutate("deleteVisit", json!({"id": deleted["id"], "version": 1, "reason": "r"}), "visit { id }").await;
        let erased = visit(&front_desk, "erased").await;
        front_desk.mutate("erasePatient", json!({"id": erased["patient"]["id"], "version": 1, "reason": "r"}), "patient { id }").await;
        for (number, purpose, message) in [
            ("booked", "CONFIRM", "this visit is BOOKED: only a TENTATIVE one can be confirmed"),
            ("canceled", "CHECK_IN", "this visit is CANCELED: only one that is TENTATIVE or BOOKED can be checked in by code"),
            ("checked in", "CHECK_IN", "this visit is CHECKED_IN: only one that is TENTATIVE or BOOKED can be checked in by code"),
            ("past", "CHECK_IN", "the day of this visit, 2025-05-09, is over"),
            ("tentative", "CONFIRM", "the day of this visit, 2025-05-10, is over"),
            ("lapsed", "CONFIRM", "this booking was not confirmed in time, and has lapsed"),
            ("lapsed", "CHECK_IN", "this booking was not confirmed in time, and has lapsed"),
            ("erased", "CHECK_IN", "this patient was erased"),
        ] {
            let input = json!({"visitId": visit(&front_desk, number).await["id"], "purpose": purpose});
            let response = front_desk.mutation_response("issueVisitCode", input, "code").await;
            assert_eq!(response["errors"][0]["extensions"], json!({"argument": "input.visitId", "code": "BAD_USER_INPUT"}), "{number}");
            assert_eq!(response["errors"][0]["message"], format!("input.visitId: {message}"));
        }
        for (id, code) in [(&deleted["id"], "NOT_FOUND"), (&json!("x"), "BAD_USER_INPUT")] {
            let input = json!({"visitId": id, "purpose": "CHECK_IN"});
            assert_eq!(front_desk.mutation_error("issueVisitCode", input).await, error(code, "input.visitId"));
        }
        // On the day and until 12 hours after, and by who may.
        let input = json!({"visitId": visit(&front_desk, "tentative").await["id"], "purpose": "CHECK_IN"});
        let issued = front_desk.mutate("issueVisitCode", input.clone(), "expiresAt").await;
        assert_eq!(issued["expiresAt"], "2025-05-11T03:00:00Z");
        app.sign_in("kiosk").await.expect_mutation_error("issueVisitCode", input, "FORBIDDEN").await;
    }

    async fn codes_keep_the_rules_of_the_desk(app: TestApp) {
        app.set_time(NOW);
        import(app, &[("1", "2025-05-11", "CHECKED_IN"), ("2", "2025-05-11", "BOOKED")]);
        let (front_desk, kiosk) = (app.sign_in("desk").await, app.sign_in("kiosk").await);
        let check_in = json!({"code": issue(&front_desk, "2", "CHECK_IN").await});
        // The patient is with the same doctor already.
        assert_eq!(kiosk.mutation_error("checkInVisit", check_in.clone()).await, invalid());
        let first = visit(&front_desk, "1").await;
        front_desk.mutate("changeVisit", json!({"id": first["id"], "version": 1, "status": "COMPLETED"}), "visit { id }").await;
        kiosk.mutate("checkInVisit", check_in, "visit { status }").await;
    }

    async fn a_code_is_used_once_by_concurrent_requests(app: TestApp) {
        app.set_time(NOW);
        import(app, &[("1", "2025-05-11", "BOOKED"), ("2", "2025-05-12", "TENTATIVE")]);
        let other = app.second_server();
        let front_desk = app.sign_in("desk").await;
        let mut kiosks = Vec::new();
        for base in [app.base(), &other.base].repeat(8) {
            kiosks.push(app.sign_in_at(base, "H1", "kiosk").await);
        }
        for (number, purpose, mutation) in [("1", "CHECK_IN", "checkInVisit"), ("2", "CONFIRM", "confirmVisit")] {
            let code = issue(&front_desk, number, purpose).await;
            let uses = kiosks.iter().map(|kiosk| kiosk.mutation_error(mutation, json!({"code": code})));
            let answers = join_all(uses).await;
            let succeeded = answers.iter().filter(|(code, _)| code.is_empty()).count();
            assert_eq!(succeeded, 1, "{answers:?}");
            assert!(answers.iter().all(|answer| answer.0.is_empty() || *answer == invalid()), "{answers:?}");
            assert_eq!(visit(&front_desk, number).await["version"], 2);
        }
    }
}
