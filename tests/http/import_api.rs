//! Imports of uploaded files by the API.

use serde_json::{Value, json};
use test_support::{Client, error, on_each_database, wait_until};

const COUNTS: &str = "counts { outcome rows }";

async fn prepared(user: &Client<'_>, content: impl Into<Vec<u8>>, more: Value) -> Value {
    let mut input = more;
    input["fileId"] = user.upload(content).await;
    let kind = input["kind"].as_str().unwrap_or("PATIENTS").to_owned();
    input["kind"] = json!(kind);
    user.mutate("prepareImport", input, "import { id }").await["import"]["id"].take()
}

/// The import, once it is in the state.
async fn in_state(user: &Client<'_>, id: &Value, state: &str) -> Value {
    wait_until("the import is in the state", async || {
        let import = user
            .graphql(&format!("{{ import(id: {id}) {{ state problem }} }}"))
            .await;
        let now = import["import"]["state"].as_str().unwrap();
        assert!(now == state || matches!(now, "CHECKING" | "COMMITTING"), "{import}");
        now == state
    })
    .await;
    let fields = format!(
        "state fileName fileDigest source conflicts rowsRead rowsTotal problem lastImportedAt by {{ login }} {COUNTS}
        reading {{ format encoding delimiter headerRow columns {{ header column }} }} unknownWords {{ column word rows }}
        rows(first: 100) {{ totalCount nodes {{ line outcome problems {{ column message valueLeftOut }} fields {{ field before after }} }} }}"
    );
    user.graphql(&format!("{{ import(id: {id}) {{ {fields} }} }}")).await["import"].take()
}

fn count(import: &Value, outcome: &str) -> u64 {
    let counts = import["counts"].as_array().unwrap();
    counts.iter().find(|count| count["outcome"] == outcome).unwrap()["rows"]
        .as_u64()
        .unwrap()
}

on_each_database! {
    async fn a_file_is_checked_then_committed(app: TestApp) {
        app.import("patients", "H1", "chart_no,name,phone\n1,Ann Ash,010-1111-0001\n2,Bo Bay,\n");
        let (admin, desk) = (app.sign_in("admin").await, app.sign_in("desk").await);
        let row = admin.graphql("{ patients(filter: {search: \"2\"}) { nodes { id version } } }").await["patients"]["nodes"][0].take();
        admin.mutate("changePatient", json!({"id": row["id"], "version": row["version"], "name": "Bob Bay"}), "patient { id }").await;
        let file = "chart_no;name;phone;sex;ward\n1;Ann Ash;010-2222-0001;;A\n2;Bo Boy;;;B\n3;Cy Cox;12;MALE;\n4;X;;WOMAN;\n;;;;A\n1;Again;;;\n";
        let mapping = "[columns]\nchart_no = \"chart_no\"\n";
        let id = prepared(&desk, file, json!({"mapping": mapping})).await;
        let import = in_state(&desk, &id, "READY").await;
        assert_eq!((&import["rowsRead"], &import["rowsTotal"], &import["by"]["login"]), (&json!(6), &json!(6), &json!("desk")));
        assert_eq!(import["source"], "patients");
        assert_eq!(import["reading"], json!({"format": "CSV", "encoding": "UTF-8", "delimiter": ";", "headerRow": 1, "columns": [
            {"header": "chart_no", "column": "chart_no"}, {"header": "name", "column": "name"}, {"header": "phone", "column": "phone"},
            {"header": "sex", "column": "sex"}, {"header": "ward", "column": null},
        ]}));
        assert_eq!(import["unknownWords"], json!([{"column": "sex", "word": "WOMAN", "rows": 1}]));
        let rows = import["rows"]["nodes"].clone();
        assert_eq!(rows[0], json!({"line": 2, "outcome": "CHANGE", "problems": [], "fields": [{"field": "phone", "before": "+821011110001", "after": "+821022220001"}]}));
        assert_eq!(rows[1]["outcome"], "CONFLICT");
        assert_eq!(rows[1]["fields"], json!([{"field": "name", "before": "Bob Bay", "after": "Bo Boy"}]));
        assert_eq!(rows[1]["problems"][0]["column"], "name");
        assert_eq!(rows[2], json!({"line": 4, "outcome": "INSERT", "fields": [{"field": "name", "before": null, "after": "Cy Cox"}, {"field": "sex", "before": null, "after": "MALE"}],
            "problems": [{"column": "phone", "message": "left empty: must be a complete phone number, with a country code or of the hospital's country", "valueLeftOut": true}]}));
        assert_eq!((&rows[3]["outcome"], &rows[4]["outcome"], &rows[5]["outcome"]), (&json!("REFUSED"), &json!("BLANK"), &json!("REFUSED")));
        // Every count is the length of a list.
        for outcome in ["INSERT", "CHANGE", "UNCHANGED", "CONFLICT", "REFUSED", "BLANK"] {
            let query = format!("{{ import(id: {id}) {{ rows(outcomes: [{outcome}]) {{ totalCount nodes {{ outcome }} }} }} }}");
            let list = desk.graphql(&query).await["import"]["rows"].take();
            assert_eq!(list["totalCount"], count(&import, outcome), "{outcome}");
            assert!(list["nodes"].as_array().unwrap().iter().all(|row| row["outcome"] == outcome));
        }
        // Nothing was changed.
        assert_eq!(admin.graphql("{ patients { totalCount } }").await["patients"]["totalCount"], 2);
        desk.mutate("commitImport", json!({"id": id, "idempotencyKey": "once"}), "import { id }").await;
        let done = in_state(&desk, &id, "DONE").await;
        desk.mutate("commitImport", json!({"id": id, "idempotencyKey": "once"}), "import { id }").await;
        assert_eq!((&done["counts"], &done["rows"]), (&import["counts"], &import["rows"]));
        assert_ne!(done["lastImportedAt"], Value::Null);
        let patients = admin.graphql("{ patients { nodes { chartNo name phone } } }").await["patients"]["nodes"].take();
        assert_eq!(patients, json!([{"chartNo": "1", "name": "Ann Ash", "phone": "+821022220001"}, {"chartNo": "2", "name": "Bob Bay", "phone": null},
            {"chartNo": "3", "name": "Cy Cox", "phone": null}]));
        // The file is deleted, and its import is in the audit: one entry, with its digest, its counts, and who.
        assert_eq!(app.query_number("SELECT COUNT(*) FROM upload").await, 0);
        let entries = admin.graphql("{ audit(filter: {actions: [IMPORTED]}) { nodes { what staff { login } } } }").await["audit"]["nodes"].take();
        assert_eq!(entries[0], json!({"what": format!("patients: 6 rows read: 1 inserted, 1 changed, 0 unchanged, 1 conflicts, 2 refused, 1 blank; 1 values left empty; SHA-256 {}",
            done["fileDigest"].as_str().unwrap()), "staff": {"login": "desk"}}));
        // Again, the same file says nothing new.
        let again = prepared(&desk, file, json!({"mapping": mapping})).await;
        let again = in_state(&desk, &again, "READY").await;
        assert_eq!(["INSERT", "CHANGE", "UNCHANGED", "CONFLICT"].map(|outcome| count(&again, outcome)), [0, 0, 3, 0]);
        assert_ne!(again["lastImportedAt"], Value::Null, "known by its digest");
        let list = admin.graphql("{ imports { totalCount nodes { state fileName } } }").await["imports"].take();
        assert_eq!(list["totalCount"], 3);
        assert_eq!([&list["nodes"][0]["state"], &list["nodes"][1]["state"], &list["nodes"][2]["fileName"]], [&json!("READY"), &json!("DONE"), &json!("patients.csv")]);
    }

    async fn a_spreadsheet_is_checked_then_committed(app: TestApp) {
        let desk = app.sign_in("desk").await;
        let mut workbook = rust_xlsxwriter::Workbook::new();
        let sheet = workbook.add_worksheet();
        sheet.set_name("2025").unwrap();
        sheet.write_row(1, 0, ["MRN", "Name", "Room"]).unwrap();
        sheet.write_number(2, 0, 7.0).unwrap();
        sheet.write_row(2, 1, ["Ann Ash", "3"]).unwrap();
        let id = prepared(&desk, workbook.save_to_buffer().unwrap(), json!({})).await;
        let import = in_state(&desk, &id, "READY").await;
        assert_eq!(import["reading"], json!({"format": "XLSX", "encoding": null, "delimiter": null, "headerRow": 2, "columns": [
            {"header": "MRN", "column": "chart_no"}, {"header": "Name", "column": "name"}, {"header": "Room", "column": null}]}));
        assert_eq!(import["rows"]["nodes"][0]["line"], 3);
        desk.mutate("commitImport", json!({"id": id}), "import { id }").await;
        in_state(&desk, &id, "DONE").await;
        let patients = desk.graphql("{ patients { nodes { chartNo name } } }").await["patients"]["nodes"].take();
        assert_eq!(patients, json!([{"chartNo": "7", "name": "Ann Ash"}]));
    }

    async fn a_file_that_cannot_be_taken_fails_whole(app: TestApp) {
        let admin = app.sign_in("admin").await;
        for (content, problem) in [
            ("name,phone\nKim,1\n", "the file: no header row was found: it must have the columns chart_no"),
            ("chart_no,name\n1,\"Kim\n2,Lee\n", "the file: line 2: a quote is not closed"),
        ] {
            let id = prepared(&admin, content, json!({})).await;
            let failed = in_state(&admin, &id, "FAILED").await;
            let said = failed["problem"].as_str().unwrap();
            assert!(said.starts_with(problem), "{said}");
        }
        assert_eq!(app.query_number("SELECT COUNT(*) FROM upload").await, 0);
        assert_eq!(admin.graphql("{ patients { totalCount } }").await["patients"]["totalCount"], 0);
        let file = admin.upload("chart_no\n1\n").await;
        let bad = |more: Value| {
            let mut input = json!({"fileId": file, "kind": "PATIENTS"});
            input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            input
        };
        for (more, expected) in [
            (json!({"mapping": "colums = {}"}), error("BAD_USER_INPUT", "input.mapping")),
            (json!({"mapping": "#".repeat(70_000)}), error("BAD_USER_INPUT", "input.mapping")),
            (json!({"source": " "}), error("BAD_USER_INPUT", "input.source")),
            (json!({"fileId": "x"}), error("BAD_USER_INPUT", "input.fileId")),
            (json!({"fileId": "VWM"}), error("NOT_FOUND", "input.fileId")),
        ] {
            assert_eq!(admin.mutation_error("prepareImport", bad(more.clone())).await, expected, "{more}");
        }
        let id = admin.mutate("prepareImport", bad(json!({"idempotencyKey": "k"})), "import { id }").await["import"]["id"].take();
        assert_eq!(admin.mutate("prepareImport", bad(json!({"idempotencyKey": "k"})), "import { id }").await["import"]["id"], id);
        in_state(&admin, &id, "READY").await;
        admin.mutate("discardImport", json!({"id": id}), "import { state }").await;
        assert_eq!(admin.mutation_error("commitImport", json!({"id": id})).await, error("BAD_USER_INPUT", "input.id"));
        assert_eq!(app.query_number("SELECT COUNT(*) FROM import_row").await, 0);
        assert_eq!(app.query_number("SELECT COUNT(*) FROM upload").await, 0);
        assert_eq!(admin.mutation_error("commitImport", json!({"id": "SQk"})).await, error("NOT_FOUND", "input.id"));
    }

    async fn what_happened_since_the_check_is_decided_again(app: TestApp) {
        app.import("patients", "H1", "chart_no,name\n1,Ann Ash\n");
        let admin = app.sign_in("admin").await;
        let id = prepared(&admin, "chart_no,name\n1,Anna Ash\n2,Bo Bay\n", json!({})).await;
        assert_eq!(count(&in_state(&admin, &id, "READY").await, "CHANGE"), 1);
        let row = admin.graphql("{ patients { nodes { id version } } }").await["patients"]["nodes"][0].take();
        admin.mutate("changePatient", json!({"id": row["id"], "version": row["version"], "name": "Ann Ashley"}), "patient { id }").await;
        // Another server commits it.
        let server = app.second_server();
        let other = app.sign_in_at(&server.base, "H1", "admin").await;
        other.mutate("commitImport", json!({"id": id}), "import { id }").await;
        let done = in_state(&admin, &id, "DONE").await;
        assert_eq!(["INSERT", "CHANGE", "CONFLICT"].map(|outcome| count(&done, outcome)), [1, 0, 1]);
        assert_eq!(admin.graphql("{ patients { nodes { name } } }").await["patients"]["nodes"], json!([{"name": "Ann Ashley"}, {"name": "Bo Bay"}]));
        // What rows show of a patient goes when the patient is erased.
        let bo = admin.graphql("{ patients(filter: {search: \"2\"}) { nodes { id version } } }").await["patients"]["nodes"][0].take();
        admin.mutate("erasePatient", json!({"id": bo["id"], "version": bo["version"], "reason": "Asked for"}), "patient { id }").await;
        let rows = in_state(&admin, &id, "DONE").await["rows"]["nodes"].take();
        assert_eq!(rows[1], json!({"line": 3, "outcome": "INSERT", "problems": [], "fields": []}));
    }

    async fn an_import_that_nobody_goes_on_with_ends(app: TestApp) {
        let admin = app.sign_in("admin").await;
        let id = prepared(&admin, "chart_no\n1\n", json!({})).await;
        in_state(&admin, &id, "READY").await;
        // As if a server had ended while it committed.
        app.execute("UPDATE import SET state = 'COMMITTING', running = TRUE, updated_at = '2020-01-01 00:00:00'").await;
        drop(app.second_server());
        let _server = app.second_server();
        let failed = in_state(&admin, &id, "FAILED").await;
        assert!(failed["problem"].as_str().unwrap().starts_with("the server stopped"), "{failed}");
    }
}
