//! Finding patients by name, chart number, phone and birth date, however they were written.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use migration::{Migrator, MigratorTrait as _};
use serde_json::{Value, json};
use test_support::{Client, TestApp, on_each_database};

/// The chart numbers that a filter finds, in their order; the total is to be the same, and so are pages of two from either end.
async fn found(user: &Client<'_>, filter: Value) -> String {
    let page = async |arguments: Value| {
        let query = "query ($f: PatientFilter, $first: Int, $after: String, $last: Int, $before: String) {
            patients(filter: $f, first: $first, after: $after, last: $last, before: $before) {
                totalCount nodes { chartNo } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }";
        let mut variables = arguments;
        variables["f"] = filter.clone();
        user.graphql_with(query, variables).await["patients"].take()
    };
    let charts = |page: &Value| -> Vec<String> {
        let nodes = page["nodes"].as_array().unwrap().iter();
        nodes.map(|node| node["chartNo"].as_str().unwrap().to_owned()).collect()
    };
    let all = page(json!({"first": 100})).await;
    assert_eq!(all["totalCount"], charts(&all).len(), "{filter}");
    let (mut forwards, mut at) = (Vec::new(), Value::Null);
    loop {
        let part = page(json!({"first": 2, "after": at})).await;
        forwards.extend(charts(&part));
        if part["pageInfo"]["hasNextPage"] == false {
            break;
        }
        at = part["pageInfo"]["endCursor"].clone();
    }
    let (mut backwards, mut at) = (Vec::new(), Value::Null);
    loop {
        let part = page(json!({"last": 2, "before": at})).await;
        backwards.splice(0..0, charts(&part));
        if part["pageInfo"]["hasPreviousPage"] == false {
            break;
        }
        at = part["pageInfo"]["startCursor"].clone();
    }
    assert_eq!((&forwards, &backwards), (&charts(&all), &charts(&all)), "{filter}");
    forwards.join(" ")
}

async fn by_text(user: &Client<'_>, text: &str) -> String {
    found(user, json!({"search": text})).await
}

async fn id_of(user: &Client<'_>, chart_no: &str) -> (Value, Value) {
    let query = "query ($s: String) { patients(filter: {search: $s}) { nodes { id version chartNo } } }";
    let nodes = user.graphql_with(query, json!({"s": chart_no})).await["patients"]["nodes"].take();
    let node = nodes
        .as_array()
        .unwrap()
        .iter()
        .find(|node| node["chartNo"] == chart_no)
        .unwrap();
    (node["id"].clone(), node["version"].clone())
}

/// Names that are not indexed as they are.
async fn unindexed(app: &TestApp) -> i64 {
    let stale = "SELECT COUNT(*) FROM patient WHERE COALESCE(indexed_name, '') <> COALESCE(CASE WHEN state = 'ACTIVE' THEN name END, '')";
    app.query_number(stale).await
}

const PATIENTS: &str = "chart_no,name,phone,birth_date,registered_on
000017,Ann Ash Berg,010-1111-0001,1980-01-31,2025-05-01
000170,김영수,010-2222-0001,1970-02-02,2025-04-20
00018,Anne-Marie Öst,02-312-0001,1980-01-31,2025-03-01
9,ash,+1 212 555 0170,,2025-05-05
A17,Bo Li,,1970-02-02,
a18,李 四,010-2222-3333,1999-12-31,2025-06-01
";

on_each_database! {
    async fn words_numbers_phones_and_birth_dates_find_patients(app: TestApp) {
        app.import("patients", "H1", PATIENTS);
        let desk = app.sign_in("desk").await;
        for (text, charts) in [
            ("ann", "000017 00018"), ("ASH", "000017 9"), ("ashb", "000017"), ("ash b", "000017"), ("berg", "000017"), ("erg", ""),
            ("nn", ""), ("marie ö", "00018"), ("MARIE O\u{308}st", "00018"), ("김", "000170"), ("영수", "000170"), ("수", "000170"),
            ("四", "a18"), ("李四", "a18"), ("17", "000017 000170"), ("00017", "000170"), ("000017", "000017"), ("0", "000017 000170 00018"),
            ("1", "000017 000170 00018"), ("017", ""), ("a1", "a18"), ("A", "000017 00018 9 A17"), ("A1", "A17"), ("9", "9"),
            ("010-1111-0001", "000017"), ("02 312 0001", "00018"), ("0001", "000170 00018"), ("2222", ""), ("%", ""), ("_", ""), ("\u{10ffff}", ""), ("-", ""),
        ] {
            assert_eq!(by_text(&desk, text).await, charts, "{text}");
        }
        for (filter, charts) in [
            (json!({"phoneEndsWith": "0001"}), "000017 000170 00018"),
            (json!({"phoneEndsWith": "2-0001"}), "000170 00018"),
            (json!({"phoneEndsWith": "22220001"}), "000170"),
            (json!({"phoneEndsWith": "０１０ 2222 0001"}), "000170"),
            (json!({"phoneEndsWith": "+82 10 2222 0001"}), "000170"),
            (json!({"phoneEndsWith": "9910222200 01"}), ""),
            (json!({"phoneEndsWith": "555-0170"}), "9"),
            (json!({"birthDate": "1980-01-31"}), "000017 00018"),
            (json!({"birthDate": "1980-01-30"}), ""),
            (json!({"birthDate": "1980-01-31", "search": "ann"}), "000017 00018"),
            (json!({"birthDate": "1980-01-31", "search": "ash"}), "000017"),
            (json!({"birthDate": "1970-02-02", "phoneEndsWith": "0001"}), "000170"),
            (json!({"birthDate": "1970-02-02", "phoneEndsWith": "0001", "search": "17"}), "000170"),
            (json!({"search": "1", "registered": {"from": "2025-04-01", "to": "2025-05-01"}}), "000017 000170"),
            (json!({"birthDate": "1970-02-02", "registered": {"from": "2025-04-01", "to": "2025-05-01"}}), "000170"),
        ] {
            assert_eq!(found(&desk, filter.clone()).await, charts, "{filter}");
        }
        for digits in ["123", "12x4", "", "1234567890123456"] {
            let query = format!("{{ patients(filter: {{phoneEndsWith: {digits:?}}}) {{ totalCount }} }}");
            assert_eq!(desk.graphql_error(&query).await, ("BAD_USER_INPUT".to_owned(), "filter.phoneEndsWith".to_owned()), "{digits}");
        }
        let support = app.sign_in("support").await;
        for filter in ["birthDate: \"1980-01-31\"", "phoneEndsWith: \"0001\"", "phoneEndsWith: \"1\", search: \"17\""] {
            support.expect_error(&format!("{{ patients(filter: {{{filter}}}) {{ totalCount }} }}"), "FORBIDDEN").await;
        }
        assert_eq!(by_text(&support, "17").await, "000017 000170");
        // Each is a search for the audit, with those who were found.
        let found = "{ audit(first: 1, filter: {actions: [SEARCHED]}) { nodes { patientIds } } }";
        desk.graphql("{ patients(filter: {birthDate: \"1980-01-31\"}) { totalCount } }").await;
        let audit = app.sign_in("admin").await.graphql(found).await;
        assert_eq!(audit["audit"]["nodes"][0]["patientIds"].as_array().unwrap().len(), 2);
    }

    async fn a_merged_number_finds_who_stays(app: TestApp) {
        app.import("patients", "H1", PATIENTS);
        let desk = app.sign_in("desk").await;
        let ((from, version), (into, _)) = (id_of(&desk, "000017").await, id_of(&desk, "A17").await);
        desk.mutate("mergePatients", json!({"id": from, "version": version, "intoId": into, "reason": "twice"}), "into { id }").await;
        for (text, charts) in [("17", "000170 A17"), ("00001", "A17"), ("000017", "A17"), ("A17", "A17"), ("berg", ""), ("bo", "A17")] {
            assert_eq!(by_text(&desk, text).await, charts, "{text}");
        }
        assert_eq!(found(&desk, json!({"search": "17", "birthDate": "1970-02-02"})).await, "000170 A17");
        desk.mutate("undoMerge", json!({"id": from, "reason": "not so"}), "patient { id }").await;
        for (text, charts) in [("berg", "000017"), ("00001", "000017"), ("A17", "A17")] {
            assert_eq!(by_text(&desk, text).await, charts, "{text}");
        }
        // Of an erased patient nothing is left to be found by.
        let (id, version) = id_of(&desk, "000017").await;
        desk.mutate("erasePatient", json!({"id": id, "version": version, "reason": "asked"}), "patient { id }").await;
        assert_eq!(by_text(&desk, "berg").await, "");
        assert_eq!(found(&desk, json!({"phoneEndsWith": "0001"})).await, "000170 00018");
        let left = "SELECT COUNT(*) FROM patient WHERE state = 'ERASED' AND (indexed_name IS NOT NULL OR phone_last_four IS NOT NULL OR phone_endings IS NOT NULL)";
        assert_eq!(app.query_number(left).await, 0);
        let orphans = "SELECT COUNT(*) FROM patient_name_suffix s JOIN patient p ON p.hospital_id = s.hospital_id AND p.id = s.patient_id WHERE p.state <> 'ACTIVE'";
        assert_eq!(app.query_number(orphans).await, 0);
    }

    async fn names_written_in_sql_are_found(app: TestApp) {
        app.import("patients", "H1", PATIENTS);
        let desk = app.sign_in("desk").await;
        for (change, finds) in [
            ("UPDATE patient SET name = 'Ｂea  Bay' WHERE chart_no = '9'", &[("bea b", "9"), ("ash", "000017")][..]),
            ("UPDATE patient SET name = NULL WHERE chart_no = '9'", &[("bea", ""), ("bay", "")]),
            ("INSERT INTO patient (hospital_id, state, chart_no, name, sex) SELECT id, 'ACTIVE', '10', 'STRAẞE', 'OTHER' FROM hospital WHERE code = 'H1'", &[("strasse", "10")]),
            ("UPDATE patient SET state = 'ERASED' WHERE chart_no = 'A17'", &[("bo", "")]),
            ("UPDATE patient SET state = 'ACTIVE', name = 'Bob' WHERE chart_no = 'A17'", &[("bo", "A17"), ("li", "")]),
            ("DELETE FROM patient WHERE chart_no = '000017'", &[("ann", "00018"), ("berg", "")]),
        ] {
            app.execute(change).await;
            for (text, charts) in finds {
                assert_eq!(by_text(&desk, text).await, *charts, "{text} after {change}");
            }
            assert_eq!(unindexed(app).await, 0, "{change}");
        }
        let patients: i64 = app.query_number("SELECT COUNT(DISTINCT patient_id) FROM patient_name_suffix").await;
        let named: i64 = app.query_number("SELECT COUNT(*) FROM patient WHERE name IS NOT NULL AND state = 'ACTIVE'").await;
        assert_eq!(patients, named);
        app.execute("DELETE FROM patient").await;
        assert_eq!(app.query_number("SELECT COUNT(*) FROM patient_name_suffix").await, 0);
    }

    async fn keys_written_in_sql_are_those_of_the_order(app: TestApp) {
        app.import("patients", "H1", PATIENTS);
        let desk = app.sign_in("desk").await;
        let order = async |field: &str| {
            let query = format!("{{ patients(filter: {{search: \"a\"}}, orderBy: {{field: {field}}}) {{ nodes {{ chartNo }} }} }}");
            let nodes = desk.graphql(&query).await["patients"]["nodes"].take();
            nodes.as_array().unwrap().iter().map(|node| node["chartNo"].as_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!((order("CHART_NO").await, order("REGISTERED_ON").await), ("000017 00018 9 a18".to_owned(), "00018 000017 9 a18".to_owned()));
        app.execute("UPDATE patient SET chart_no = 'B', registered_on = '2025-02-01' WHERE chart_no = '9'").await;
        assert_eq!((order("CHART_NO").await, order("REGISTERED_ON").await), ("000017 00018 B a18".to_owned(), "B 00018 000017 a18".to_owned()));
        // Capital letters come first.
        app.execute("UPDATE patient SET name = 'A' WHERE chart_no = '00018'").await;
        assert_eq!(order("NAME").await, "00018 000017 B a18");
        let differing = "SELECT COUNT(*) FROM patient_name_suffix s JOIN patient p ON p.hospital_id = s.hospital_id AND p.id = s.patient_id
            WHERE s.name <> p.name OR s.chart_no <> p.chart_no OR s.registered_on <> p.registered_on";
        assert_eq!(app.query_number(differing).await, 0);
    }

    async fn existing_patients_are_found_after_an_upgrade(app: TestApp) {
        app.import("patients", "H1", PATIENTS);
        let steps = Migrator::migrations();
        let at = steps.iter().position(|step| step.name() == "m0016_patient_search").unwrap();
        Migrator::down(&app.sql, Some(u32::try_from(steps.len() - at).unwrap())).await.unwrap();
        app.run_cli(&["migrate"]);
        assert_eq!(unindexed(app).await, 0);
        let server = app.second_server();
        let desk = app.sign_in_at(&server.base, "H1", "desk").await;
        assert_eq!(by_text(&desk, "ash").await, "000017 9");
        assert_eq!(found(&desk, json!({"phoneEndsWith": "20001"})).await, "000170 00018");
        // With another key they are hashed again.
        app.run_cli(&["keys", "rotate"]);
        assert_eq!(found(&desk, json!({"phoneEndsWith": "20001"})).await, "000170 00018");
        app.run_cli(&["keys", "drop-old"]);
        let desk = app.sign_in_at(&server.base, "H1", "desk").await;
        assert_eq!(found(&desk, json!({"phoneEndsWith": "20001"})).await, "000170 00018");
        assert_eq!(found(&desk, json!({"phoneEndsWith": "0001"})).await, "000017 000170 00018");
    }

    /// More entries than are sorted: pages follow the list's order.
    async fn frequent_names_and_numbers_are_paged_in_order(app: TestApp) {
        let mut file = "chart_no,name,birth_date,registered_on\n".to_owned();
        let day = |number: i32| number % 28 + 1;
        for number in 1..=4_400 {
            let name = if number % 11 == 0 { "이솔" } else { "김영수" };
            file.push_str(&format!("{number:06},{name}{},{},2025-01-{:02}\n", number % 7, if number % 2 == 0 { "1980-01-31" } else { "" }, day(number)));
        }
        // Without a name, and without a chart number.
        file.push_str("X1,,,\n");
        let first_half = |number: &i32| (1..=14).contains(&day(*number));
        let first_half_of = |of: &dyn Fn(&i32) -> bool| (1..=4_400).filter(first_half).filter(of).count();
        app.import("patients", "H1", &file);
        app.execute("INSERT INTO patient (hospital_id, state, name, sex) SELECT id, 'ACTIVE', '김 C', 'OTHER' FROM hospital WHERE code = 'H1'").await;
        let desk = app.sign_in("desk").await;
        let query = "query ($f: PatientFilter, $o: PatientOrder, $first: Int, $after: String) { patients(filter: $f, orderBy: $o, first: $first, after: $after) {
            totalCount nodes { chartNo name registeredOn } pageInfo { hasNextPage endCursor } } }";
        let registered = json!({"from": "2025-01-01", "to": "2025-01-14"});
        for (filter, total) in [
            (json!({"search": "김"}), 4_001), (json!({"search": "0"}), 4_400), (json!({"search": "1"}), 1_111),
            (json!({"search": "김", "birthDate": "1980-01-31"}), 2_000), (json!({"search": "이솔"}), 400),
            (json!({"search": "김", "registered": registered}), first_half_of(&|number| number % 11 != 0)),
            (json!({"search": "1", "registered": registered}), first_half_of(&|number| number.to_string().starts_with('1'))),
            (json!({"registered": registered}), first_half_of(&|_| true)),
        ] {
            for (field, direction) in [("CHART_NO", "ASC"), ("CHART_NO", "DESC"), ("NAME", "ASC"), ("NAME", "DESC"), ("REGISTERED_ON", "ASC"), ("REGISTERED_ON", "DESC")] {
                let (mut rows, mut at) = (Vec::new(), Value::Null);
                loop {
                    let variables = json!({"f": filter, "o": {"field": field, "direction": direction}, "first": 100, "after": at});
                    let page = desk.graphql_with(query, variables).await["patients"].take();
                    assert_eq!(page["totalCount"], total);
                    rows.extend(page["nodes"].as_array().unwrap().iter().map(|node| {
                        let text = |field: &str| node[field].as_str().unwrap_or_default().to_owned();
                        let key = match field {
                            "NAME" => text("name"),
                            "CHART_NO" => text("chartNo"),
                            _ => text("registeredOn"),
                        };
                        (key, text("chartNo"))
                    }));
                    // Of most lists only a few pages, since the list is long.
                    if page["pageInfo"]["hasNextPage"] == false || (rows.len() >= 200 && (field, direction) != ("CHART_NO", "ASC")) {
                        break;
                    }
                    at = page["pageInfo"]["endCursor"].clone();
                }
                // Patients with the same key come by id, which is in the order of the chart numbers.
                let in_order = |(a, one): &(String, String), (b, other): &(String, String)| {
                    a.is_empty() <= b.is_empty() && match a.cmp(b) {
                        Ordering::Equal => one < other,
                        _ if a.is_empty() || b.is_empty() => true,
                        different => different == if direction == "ASC" { Ordering::Less } else { Ordering::Greater },
                    }
                };
                assert!(rows.is_sorted_by(in_order), "{filter} {field} {direction}");
                let distinct: BTreeSet<_> = rows.iter().collect();
                assert_eq!(distinct.len(), rows.len());
                if (field, direction) == ("CHART_NO", "ASC") {
                    assert_eq!(rows.len(), total, "{filter} {direction}");
                }
            }
        }
    }
}
