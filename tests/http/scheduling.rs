//! Hours of doctors, absences, closures, slots, and the bookings that no longer fit.

use serde_json::{Value, json};
use test_support::{Client, DatabaseKind, PASSWORD, TestApp, error, on_each_database};

/// A doctor of the hospital of this client, by name.
async fn doctor(client: &Client<'_>, name: &str) -> Value {
    let doctors = client
        .graphql("{ hospital { doctors(includeRetired: true) { id name } } }")
        .await;
    let all = doctors["hospital"]["doctors"].as_array().unwrap();
    let found = all.iter().find(|doctor| doctor["name"] == name);
    found.unwrap_or_else(|| panic!("there is no {name}"))["id"].clone()
}

fn hours(weekday: &str, from: &str, to: &str) -> Value {
    json!({"weekday": weekday, "from": from, "to": to})
}

/// The start of each slot of these days, TAKEN ones with a star.
async fn slots(client: &Client<'_>, doctor: &Value, from: &str, to: &str) -> String {
    let query = "query ($id: ID!, $range: DateRangeInput!) { node(id: $id) { ... on Doctor { slots(range: $range) { starts ends state } } } }";
    let variables = json!({"id": doctor, "range": {"from": from, "to": to}});
    let answer = client.graphql_with(query, variables).await;
    let slots = answer["node"]["slots"].as_array().unwrap().iter();
    let slot = |slot: &Value| {
        let star = if slot["state"] == "TAKEN" { "*" } else { "" };
        let starts = slot["starts"].as_str().unwrap();
        assert!(starts < slot["ends"].as_str().unwrap());
        format!("{}{star}", starts.trim_end_matches(":00Z"))
    };
    slots.map(slot).collect::<Vec<_>>().join(" ")
}

/// The visit numbers and the total of a payload's `visitsOutside`.
fn outside(payload: &Value) -> (Vec<&str>, u64) {
    let list = &payload["visitsOutside"];
    let numbers = list["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|visit| visit["visitNo"].as_str().unwrap());
    (numbers.collect(), list["totalCount"].as_u64().unwrap())
}

const OUTSIDE: &str = "visitsOutside { totalCount nodes { visitNo } }";

/// An ADMIN of a hospital in this time zone, with one doctor.
async fn hospital_in<'a>(app: &'a TestApp, code: &str, zone: &str) -> (Client<'a>, Value) {
    app.run_cli(&["hospital", "add", "--code", code, "--name", code, "--time-zone", zone]);
    let staff = [
        "staff",
        "add",
        "--hospital",
        code,
        "--login",
        "admin",
        "--name",
        "A",
        "--role",
        "ADMIN",
    ];
    app.run_cli_with_input(&staff, PASSWORD);
    let admin = app.sign_in_at(app.base(), code, "admin").await;
    let doctor = admin
        .mutate("addDoctor", json!({"name": "Dr Ray"}), "doctor { id }")
        .await;
    (admin, doctor["doctor"]["id"].clone())
}

on_each_database! {
    async fn hours_are_kept_and_wrong_ones_are_all_named(app: TestApp) {
        app.import_example();
        let admin = app.sign_in("admin").await;
        let ito = doctor(&admin, "Dr Ito").await;
        let all = "doctor { hours { weekday from to } slotMinutes }";
        let wanted = [hours("TUESDAY", "00:00", "24:00"), hours("MONDAY", "13:00", "18:00"), hours("MONDAY", "09:00", "13:00")];
        let input = json!({"doctorId": ito, "hours": wanted, "slotMinutes": 20, "idempotencyKey": "h"});
        let set = admin.mutate("setDoctorHours", input.clone(), all).await;
        let sorted = [&wanted[2], &wanted[1], &wanted[0]];
        assert_eq!(set["doctor"], json!({"hours": sorted, "slotMinutes": 20}));
        // Absent: as it is; null: the hospital's.
        let fewer = admin.mutate("setDoctorHours", json!({"doctorId": ito, "hours": [wanted[0]]}), all).await;
        assert_eq!(fewer["doctor"], json!({"hours": [wanted[0]], "slotMinutes": 20}));
        let hospital = admin.mutate("updateHospital", json!({"slotMinutes": 15}), "hospital { slotMinutes tentativeMinutes }").await;
        assert_eq!(hospital["hospital"], json!({"slotMinutes": 15, "tentativeMinutes": 1440}));
        let hospital = admin.mutate("updateHospital", json!({"tentativeMinutes": 60}), "hospital { slotMinutes tentativeMinutes }").await;
        assert_eq!(hospital["hospital"], json!({"slotMinutes": 15, "tentativeMinutes": 60}));
        let none = admin.mutate("setDoctorHours", json!({"doctorId": ito, "hours": [], "slotMinutes": null}), all).await;
        assert_eq!(none["doctor"], json!({"hours": [], "slotMinutes": 15}));
        // Sent again under its key it is not executed again.
        assert_eq!(admin.mutate("setDoctorHours", input, all).await, none);

        let wrong = json!({"doctorId": ito, "slotMinutes": 4, "hours": [
            hours("MONDAY", "9:00", "13:00"),
            hours("MONDAY", "10:00", "24:01"),
            hours("MONDAY", "12:00", "12:00"),
            hours("FRIDAY", "09:00", "12:00"),
            hours("FRIDAY", "11:59", "18:00"),
        ]});
        let response = admin.mutation_response("setDoctorHours", wrong, "__typename").await;
        let errors = response["errors"][0]["extensions"]["errors"].as_array().unwrap();
        let named: Vec<&str> = errors.iter().map(|error| error["argument"].as_str().unwrap()).collect();
        assert_eq!(named, ["input.hours.0.from", "input.hours.1.to", "input.hours.2", "input.hours.4", "input.slotMinutes"]);
        let text = errors[3]["message"].as_str().unwrap();
        assert!(text.contains("position 3"), "{text}");

        let old = admin.mutate("addDoctor", json!({"name": "Dr Old"}), "doctor { id }").await["doctor"]["id"].take();
        admin.mutate("changeDoctor", json!({"id": old, "retired": true}), "doctor { id }").await;
        let other = app.other_hospital().await;
        let many: Vec<Value> = (0..101).map(|i| hours("MONDAY", &format!("{:02}:{:02}", i / 60, i % 60), &format!("{:02}:{:02}", (i + 1) / 60, (i + 1) % 60))).collect();
        let times = |starts: &str, ends: &str| json!({"doctorId": ito, "starts": starts, "ends": ends});
        let cases = [
            ("setDoctorHours", json!({"doctorId": old, "hours": []}), "BAD_USER_INPUT", "input.doctorId"),
            ("setDoctorHours", json!({"doctorId": "T___", "hours": []}), "NOT_FOUND", "input.doctorId"),
            ("setDoctorHours", json!({"doctorId": "?", "hours": []}), "BAD_USER_INPUT", "input.doctorId"),
            ("setDoctorHours", json!({"doctorId": ito, "hours": many}), "BAD_USER_INPUT", "input.hours"),
            ("setDoctorHours", json!({"doctorId": ito, "hours": [], "slotMinutes": 481}), "BAD_USER_INPUT", "input.slotMinutes"),
            ("updateHospital", json!({"slotMinutes": 0}), "BAD_USER_INPUT", "input.slotMinutes"),
            ("updateHospital", json!({"slotMinutes": null}), "BAD_USER_INPUT", "input.slotMinutes"),
            ("updateHospital", json!({"tentativeMinutes": 43_201}), "BAD_USER_INPUT", "input.tentativeMinutes"),
            ("addAbsence", times("2025-05-11T10:00:00Z", "2025-05-11T10:00:00Z"), "BAD_USER_INPUT", "input.ends"),
            ("addAbsence", times("2025-05-11", "2025-05-11T10:00:00Z"), "BAD_USER_INPUT", "input.starts"),
            ("addAbsence", times("2025-05-11T10:00:00Z", "2205-05-11T10:00:00Z"), "BAD_USER_INPUT", "input.ends"),
            ("addAbsence", json!({"doctorId": old, "starts": "2025-05-11T10:00:00Z", "ends": "2025-05-11T11:00:00Z"}), "BAD_USER_INPUT", "input.doctorId"),
            ("addAbsence", json!({"doctorId": "T___", "starts": "2025-05-11T10:00:00Z", "ends": "2025-05-11T11:00:00Z"}), "NOT_FOUND", "input.doctorId"),
            ("removeAbsence", json!({"id": "Qv__"}), "NOT_FOUND", "input.id"),
            ("removeAbsence", json!({"id": ito}), "BAD_USER_INPUT", "input.id"),
        ];
        for (name, input, code, argument) in cases {
            assert_eq!(admin.mutation_error(name, input.clone()).await, error(code, argument), "{name} {input}");
        }
        assert_eq!(other.mutation_error("setDoctorHours", json!({"doctorId": ito, "hours": []})).await, error("NOT_FOUND", "input.doctorId"));
    }

    async fn absences_and_closures_are_for_some_roles(app: TestApp) {
        app.import_example();
        let admin = app.sign_in("admin").await;
        let desk = app.sign_in("desk").await;
        let ito = doctor(&admin, "Dr Ito").await;
        let day = |doctor: &Value, day: u8| json!({"doctorId": doctor, "starts": format!("2025-05-{day:02}T00:00:00+09:00"), "ends": format!("2025-05-{:02}T00:00:00+09:00", day + 1), "reason": "a course"});
        let away = desk.mutate("addAbsence", day(&ito, 12), "absence { id doctor { name } starts ends reason }").await["absence"].take();
        assert_eq!(away, json!({"id": away["id"], "doctor": {"name": "Dr Ito"}, "starts": "2025-05-11T15:00:00Z", "ends": "2025-05-12T15:00:00Z", "reason": "a course"}));
        let closed = admin.mutate("addAbsence", day(&Value::Null, 13), "absence { id doctor { name } }").await["absence"].take();
        assert_eq!(closed["doctor"], Value::Null);

        desk.expect_mutation_error("addAbsence", day(&Value::Null, 14), "FORBIDDEN").await;
        desk.expect_mutation_error("removeAbsence", json!({"id": closed["id"]}), "FORBIDDEN").await;
        for role in ["clinician", "support"] {
            let user = app.sign_in(role).await;
            user.expect_mutation_error("addAbsence", day(&ito, 14), "FORBIDDEN").await;
            user.expect_mutation_error("removeAbsence", json!({"id": away["id"]}), "FORBIDDEN").await;
        }
        for name in ["setDoctorHours", "updateHospital"] {
            let input = if name == "updateHospital" { json!({}) } else { json!({"doctorId": ito, "hours": []}) };
            desk.expect_mutation_error(name, input, "FORBIDDEN").await;
        }

        let absences = |from: &str, to: &str| format!("{{ hospital {{ absences(range: {{from: \"{from}\", to: \"{to}\"}}) {{ id reason }} }} }}");
        let ids = |answer: Value| answer["hospital"]["absences"].as_array().unwrap().iter().map(|absence| absence["id"].clone()).collect::<Vec<_>>();
        for (from, to, expected) in [
            ("2025-05-11", "2025-05-11", vec![]),
            ("2025-05-12", "2025-05-12", vec![&away["id"]]),
            ("2025-05-11", "2025-05-20", vec![&away["id"], &closed["id"]]),
            ("2025-05-14", "2025-05-20", vec![]),
        ] {
            let found = ids(admin.graphql(&absences(from, to)).await);
            assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{from} {to}");
        }
        assert_eq!(admin.graphql_error(&absences("2025-01-01", "2026-01-02")).await, error("BAD_USER_INPUT", "range"));
        let support = app.sign_in("support").await;
        assert_eq!(support.graphql(&absences("2025-05-12", "2025-05-12")).await["hospital"]["absences"][0]["reason"], Value::Null);
        let node = "query ($id: ID!) { node(id: $id) { ... on Absence { reason } } }";
        assert_eq!(desk.graphql_with(node, json!({"id": away["id"]})).await["node"]["reason"], "a course");
        let other = app.other_hospital().await;
        assert_eq!(other.graphql_with(node, json!({"id": away["id"]})).await["node"], Value::Null);
        assert_eq!(other.mutation_error("removeAbsence", json!({"id": away["id"]})).await, error("NOT_FOUND", "input.id"));

        // A removal that is sent again under its key succeeded before; by another key there is nothing to remove.
        let removal = json!({"id": away["id"], "idempotencyKey": "r"});
        for _ in 0..2 {
            assert_eq!(desk.mutate("removeAbsence", removal.clone(), "removed").await["removed"], true);
        }
        assert_eq!(desk.mutation_error("removeAbsence", json!({"id": away["id"]})).await, error("NOT_FOUND", "input.id"));
        assert_eq!(ids(admin.graphql(&absences("2025-05-11", "2025-05-20")).await), [closed["id"].clone()]);
    }

    async fn slots_are_hours_less_absences_and_bookings(app: TestApp) {
        app.set_time("2025-05-10T00:00:00Z");
        app.import("patients", "H1", "chart_no,name\n1,One\n");
        // A Monday in Seoul. Only those that may still take place take time.
        app.import("visits", "H1", "visit_no,chart_no,date,scheduled_at,status,doctor
            1,1,,2025-05-12T09:15:00+09:00,BOOKED,Dr Ito
            2,1,,2025-05-12T10:30:00+09:00,CHECKED_IN,Dr Ito
            3,1,,2025-05-12T11:00:00+09:00,CANCELED,Dr Ito
            4,1,,2025-05-12T11:30:00+09:00,TENTATIVE,Dr Ito
            5,1,,2025-05-12T13:00:00+09:00,TENTATIVE,Dr Ito
            6,1,,2025-05-12T14:00:00+09:00,BOOKED,Dr Ure
            7,1,2025-05-12,,BOOKED,Dr Ito
            8,1,,2025-05-11T23:50:00+09:00,BOOKED,Dr Ito".replace("            ", "").as_str());
        let lapsed = match app.kind() {
            DatabaseKind::Sqlite => "2025-05-10T00:00:00+00:00",
            DatabaseKind::Postgres => "2025-05-10 00:00:00+00",
            DatabaseKind::Mariadb => "2025-05-10 00:00:00",
        };
        app.execute(&format!("UPDATE visit SET expires_at = '{lapsed}' WHERE visit_no = '4'")).await;
        // Until 00:10 of the next day.
        app.execute("UPDATE visit SET duration_minutes = 20 WHERE visit_no = '8'").await;
        let admin = app.sign_in("admin").await;
        let ito = doctor(&admin, "Dr Ito").await;
        assert_eq!(slots(&admin, &ito, "2025-05-12", "2025-05-12").await, "");
        let wanted = [hours("MONDAY", "00:00", "01:00"), hours("MONDAY", "09:00", "12:00"), hours("MONDAY", "13:00", "14:20")];
        admin.mutate("setDoctorHours", json!({"doctorId": ito, "hours": wanted, "slotMinutes": 30}), "__typename").await;
        let at = |times: &str| times.split(' ').map(|time| {
            let (hours, rest) = time.split_once(':').unwrap();
            let hours: u32 = hours.parse().unwrap();
            if hours < 9 { format!("2025-05-11T{:02}:{rest}", hours + 15) } else { format!("2025-05-12T{:02}:{rest}", hours - 9) }
        }).collect::<Vec<_>>().join(" ");
        let day = async |client: &Client<'_>| slots(client, &ito, "2025-05-11", "2025-05-18").await;
        assert_eq!(day(&admin).await, at("0:00* 0:30 9:00* 9:30* 10:00 10:30* 11:00 11:30 13:00* 13:30"));
        let absence = |from: &str, to: &str, doctor: &Value| json!({"doctorId": doctor, "starts": format!("2025-05-12T{from}:00+09:00"), "ends": format!("2025-05-12T{to}:00+09:00")});
        let away = admin.mutate("addAbsence", absence("11:10", "11:20", &ito), "absence { id }").await;
        admin.mutate("addAbsence", absence("13:30", "23:00", &Value::Null), "absence { id }").await;
        admin.mutate("addAbsence", absence("09:00", "23:00", &doctor(&admin, "Dr Ure").await), "absence { id }").await;
        assert_eq!(day(&admin).await, at("0:00* 0:30 9:00* 9:30* 10:00 10:30* 11:30 13:00*"));
        admin.mutate("removeAbsence", json!({"id": away["absence"]["id"]}), "removed").await;
        assert_eq!(day(&app.sign_in("support").await).await, at("0:00* 0:30 9:00* 9:30* 10:00 10:30* 11:00 11:30 13:00*"));

        let query = |more: &str| format!("{{ hospital {{ doctors {{ name slots(range: {{from: \"2025-05-12\", to: \"2025-05-{more}) {{ starts }} }} }} }}");
        let free = admin.graphql(&query("12\"}, state: FREE")).await;
        assert_eq!(free["hospital"]["doctors"][0]["slots"].as_array().unwrap().len(), 4);
        let taken = admin.graphql(&query("12\"}, state: TAKEN")).await;
        assert_eq!(taken["hospital"]["doctors"][0]["slots"].as_array().unwrap().len(), 5);
        let month = |to: &str| format!("{{ hospital {{ doctors {{ slots(range: {{from: \"2025-05-01\", to: \"{to}\"}}) {{ starts }} }} }} }}");
        admin.graphql(&month("2025-05-31")).await;
        assert_eq!(admin.graphql_error(&month("2025-06-01")).await, error("BAD_USER_INPUT", "range"));
    }

    async fn slots_follow_daylight_saving(app: TestApp) {
        let (admin, ray) = hospital_in(app, "NY", "America/New_York").await;
        let night = [hours("SUNDAY", "00:00", "04:00"), hours("SATURDAY", "23:00", "24:00")];
        admin.mutate("setDoctorHours", json!({"doctorId": ray, "hours": night, "slotMinutes": 60}), "__typename").await;
        let of = async |from: &str, to: &str| slots(&admin, &ray, from, to).await;
        // 02:00–03:00 is skipped.
        assert_eq!(of("2025-03-08", "2025-03-09").await, "2025-03-09T04:00 2025-03-09T05:00 2025-03-09T06:00 2025-03-09T07:00");
        // 01:00–02:00 comes twice.
        assert_eq!(of("2025-11-02", "2025-11-02").await, "2025-11-02T04:00 2025-11-02T05:00 2025-11-02T06:00 2025-11-02T07:00 2025-11-02T08:00");
        let second = json!({"starts": "2025-11-02T01:00:00-05:00", "ends": "2025-11-02T02:00:00-05:00"});
        admin.mutate("addAbsence", second, "absence { id }").await;
        assert_eq!(of("2025-11-02", "2025-11-02").await, "2025-11-02T04:00 2025-11-02T05:00 2025-11-02T07:00 2025-11-02T08:00");
        let (admin, kim) = hospital_in(app, "SEOUL", "Asia/Seoul").await;
        admin.mutate("setDoctorHours", json!({"doctorId": kim, "hours": night, "slotMinutes": 120}), "__typename").await;
        assert_eq!(slots(&admin, &kim, "2025-03-09", "2025-03-09").await, "2025-03-08T15:00 2025-03-08T17:00");
    }

    async fn bookings_outside_are_told_and_not_moved(app: TestApp) {
        app.set_time("2025-05-12T01:00:00Z");
        app.import("patients", "H1", "chart_no,name\n1,One\n");
        // From Monday, 10:00 in Seoul.
        app.import("visits", "H1", "visit_no,chart_no,date,scheduled_at,status,doctor
            past,1,,2025-05-12T09:00:00+09:00,BOOKED,Dr Ito
            late,1,,2025-05-12T17:45:00+09:00,BOOKED,Dr Ito
            fits,1,,2025-05-12T17:30:00+09:00,BOOKED,Dr Ito
            held,1,,2025-05-13T09:00:00+09:00,TENTATIVE,Dr Ito
            gone,1,,2025-05-13T09:00:00+09:00,CANCELED,Dr Ito
            untimed,1,2025-05-13,,BOOKED,Dr Ito
            far,1,,2026-12-25T09:00:00+09:00,BOOKED,Dr Ito
            other,1,,2025-05-13T09:00:00+09:00,BOOKED,Dr Ure".replace("            ", "").as_str());
        let admin = app.sign_in("admin").await;
        let ito = doctor(&admin, "Dr Ito").await;
        let monday = json!({"doctorId": ito, "hours": [hours("MONDAY", "12:00", "18:00")], "idempotencyKey": "k"});
        let set = admin.mutate("setDoctorHours", monday.clone(), OUTSIDE).await;
        assert_eq!(outside(&set), (vec!["late", "held", "far"], 3));
        // Paged, by sending it again.
        let page = async |arguments: &str| {
            let fields = format!("visitsOutside({arguments}) {{ totalCount nodes {{ visitNo }} pageInfo {{ hasNextPage hasPreviousPage startCursor endCursor }} }}");
            admin.mutate("setDoctorHours", monday.clone(), &fields).await
        };
        let first = page("first: 2").await;
        assert_eq!(outside(&first), (vec!["late", "held"], 3));
        let info = &first["visitsOutside"]["pageInfo"];
        assert_eq!((&info["hasNextPage"], &info["hasPreviousPage"]), (&json!(true), &json!(false)));
        let rest = page(&format!("first: 2, after: {}", info["endCursor"])).await;
        assert_eq!(outside(&rest), (vec!["far"], 3));
        assert_eq!(rest["visitsOutside"]["pageInfo"]["hasNextPage"], false);
        let last = page("last: 1").await;
        assert_eq!(outside(&last), (vec!["far"], 3));
        let before = page(&format!("last: 5, before: {}", last["visitsOutside"]["pageInfo"]["startCursor"])).await;
        assert_eq!(outside(&before), (vec!["late", "held"], 3));
        let none = admin.mutate("setDoctorHours", json!({"doctorId": ito, "hours": []}), OUTSIDE).await;
        assert_eq!(outside(&none), (vec![], 0));

        let day = |doctor: &Value, from: &str, to: &str| json!({"doctorId": doctor, "starts": format!("2025-05-{from}:00+09:00"), "ends": format!("2025-05-{to}:00+09:00")});
        for (input, expected) in [
            (day(&ito, "12T00:00", "13T00:00"), vec!["fits", "late"]),
            (day(&ito, "12T18:00", "12T18:10"), vec!["late"]),
            (day(&ito, "12T18:15", "13T09:00"), vec![]),
            (day(&ito, "13T00:00", "14T00:00"), vec!["held"]),
            (day(&Value::Null, "13T00:00", "14T00:00"), vec!["held", "other"]),
            (day(&ito, "01T00:00", "12T09:30"), vec![]),
        ] {
            let added = admin.mutate("addAbsence", input.clone(), OUTSIDE).await;
            assert_eq!(outside(&added), (expected.clone(), expected.len() as u64), "{input}");
        }
        let times = admin.graphql("{ visits(filter: {statuses: [BOOKED, TENTATIVE]}) { totalCount } }").await;
        assert_eq!(times["visits"]["totalCount"], 7);
    }

    async fn statement_count_of_slots_is_independent_of_doctors(app: TestApp) {
        let admin = app.sign_in("admin").await;
        let add = async |name: &str| {
            let added = admin.mutate("addDoctor", json!({"name": name}), "doctor { id }").await;
            let input = json!({"doctorId": added["doctor"]["id"], "hours": [hours("MONDAY", "09:00", "18:00")]});
            admin.mutate("setDoctorHours", input, "__typename").await;
        };
        let query = "{ hospital { doctors { name slotMinutes hours { from } slots(range: {from: \"2025-05-12\", to: \"2025-05-18\"}) { state } } } }";
        let cost = async || {
            let before = app.metric("rollcall_database_statements_total").await;
            let answer = admin.graphql(query).await;
            let slots = answer["hospital"]["doctors"].as_array().unwrap().iter().map(|doctor| doctor["slots"].as_array().unwrap().len());
            (app.metric("rollcall_database_statements_total").await - before, slots.sum::<usize>())
        };
        add("Dr One").await;
        let (few, slots_of_one) = cost().await;
        for i in 0..9 {
            add(&format!("Dr {i}")).await;
        }
        let (many, slots) = cost().await;
        assert_eq!((few, slots_of_one, slots), (many, 18, 180));
        assert!(many < 15, "{many} statements");
    }
}
