//! The front desk: the life of a visit, times that are taken, tentative bookings, and a day's list.

use futures_util::future::join_all;
use sea_orm::{DbBackend, TransactionTrait as _};
use serde_json::{Value, json};
use test_support::{Client, TestApp, error, on_each_database};

/// 10:00 on a Friday in Seoul.
const NOW: &str = "2025-06-20T01:00:00Z";
const TODAY: &str = "2025-06-20";

/// A hospital on that day, with a doctor who works from 9 to 12 and from 13 to 18 on weekdays.
async fn open(app: &TestApp) -> (Client<'_>, Value) {
    app.import_example();
    app.set_time(NOW);
    let desk = app.sign_in("desk").await;
    let admin = app.sign_in("admin").await;
    let doctor = admin
        .mutate("addDoctor", json!({"name": "Dr Ahn"}), "doctor { id }")
        .await["doctor"]["id"]
        .take();
    for weekday in ["MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY"] {
        for (from, to) in [("09:00", "12:00"), ("13:00", "18:00")] {
            app.execute(&format!(
                "INSERT INTO working_hours SELECT hospital_id, id, '{weekday}', '{from}', '{to}' FROM doctor WHERE name = 'Dr Ahn'"
            ))
            .await;
        }
    }
    (desk, doctor)
}

async fn patient(desk: &Client<'_>, chart_no: &str) -> Value {
    let found = desk
        .graphql(&format!(
            "{{ patients(filter: {{search: \"{chart_no}\"}}) {{ nodes {{ id chartNo }} }} }}"
        ))
        .await;
    let mut nodes = found["patients"]["nodes"].as_array().unwrap().iter();
    nodes.find(|node| node["chartNo"] == chart_no).unwrap()["id"].clone()
}

fn with(input: &Value, more: Value) -> Value {
    let mut input = input.clone();
    input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    input
}

fn extensions(response: &Value) -> Value {
    response["errors"][0]["extensions"].clone()
}

on_each_database! {
    async fn a_visit_goes_through_its_life(app: TestApp) {
        let (desk, doctor) = open(app).await;
        let a = patient(&desk, "A").await;
        let all = "visit { id version status checkedInAt startedAt completedAt expiresAt endsAt durationMinutes note nextStatuses }";
        let input = json!({"patientId": a, "doctorId": doctor, "scheduledAt": "2025-06-20T02:00:00Z", "durationMinutes": 45, "note": "Fasting"});
        let booked = desk.mutate("recordVisit", input, all).await["visit"].take();
        assert_eq!((&booked["endsAt"], &booked["note"]), (&json!("2025-06-20T02:45:00Z"), &json!("Fasting")));
        assert_eq!(booked["nextStatuses"], json!(["CHECKED_IN", "IN_PROGRESS", "COMPLETED", "CANCELED", "NO_SHOW"]));
        let support = app.sign_in("support").await;
        let seen = support.graphql_with("query ($id: ID!) { visit(id: $id) { note nextStatuses } }", json!({"id": booked["id"]})).await;
        assert_eq!(seen["visit"], json!({"note": null, "nextStatuses": []}));
        let mut version = 1;
        let mut become_ = async |status: &str, at: &str, reason: Option<&str>| {
            app.set_time(at);
            let input = json!({"id": booked["id"], "version": version, "status": status, "reason": reason});
            version += 1;
            desk.mutate("changeVisit", input, all).await["visit"].take()
        };
        let times = |visit: &Value| [&visit["checkedInAt"], &visit["startedAt"], &visit["completedAt"]].map(Value::clone);
        let at = |minute: u32| json!(format!("2025-06-20T01:{minute:02}:00Z"));
        let checked_in = become_("CHECKED_IN", "2025-06-20T01:50:00Z", None).await;
        assert_eq!(times(&checked_in), [at(50), Value::Null, Value::Null]);
        become_("IN_PROGRESS", "2025-06-20T01:55:00Z", None).await;
        // By mistake.
        let back = become_("CHECKED_IN", "2025-06-20T01:56:00Z", None).await;
        assert_eq!(back["startedAt"], Value::Null);
        let begun = become_("IN_PROGRESS", "2025-06-20T01:57:00Z", None).await;
        assert_eq!((&begun["startedAt"], &begun["completedAt"]), (&at(57), &Value::Null));
        let completed = become_("COMPLETED", "2025-06-20T01:58:00Z", None).await;
        assert_eq!((&completed["startedAt"], &completed["completedAt"]), (&at(57), &at(58)));
        assert_eq!(completed["nextStatuses"], json!(["IN_PROGRESS", "ENDED", "CANCELED", "NO_SHOW"]));
        let ended = become_("ENDED", "2025-06-20T01:59:00Z", None).await;
        assert_eq!(ended["completedAt"], at(58));
        let input = json!({"id": booked["id"], "version": 7, "status": "CHECKED_IN", "reason": "r"});
        let refused = desk.mutation_response("changeVisit", input, "visit { id }").await;
        let allowed = json!(["COMPLETED", "CANCELED", "NO_SHOW"]);
        assert_eq!(extensions(&refused), json!({"code": "INVALID_TRANSITION", "argument": "input.status", "allowed": allowed}));
        // A correction needs a reason; the note does not.
        let input = json!({"id": booked["id"], "version": 7, "status": "NO_SHOW"});
        assert_eq!(desk.mutation_error("changeVisit", input).await, error("BAD_USER_INPUT", "input.reason"));
        desk.mutate("changeVisit", json!({"id": booked["id"], "version": 7, "note": null}), "visit { id }").await;
        version = 8;
        let mut correct = async |status: &str| {
            let input = json!({"id": booked["id"], "version": version, "status": status, "reason": "Wrong line"});
            version += 1;
            desk.mutate("changeVisit", input, all).await["visit"].take()
        };
        assert_eq!(times(&correct("NO_SHOW").await), [Value::Null, Value::Null, Value::Null]);
        assert_eq!(correct("CANCELED").await["nextStatuses"], json!(["BOOKED", "CHECKED_IN"]));
        // Twelve hours past its day.
        app.set_time("2025-06-21T03:00:00Z");
        let later = desk.graphql_with("query ($id: ID!) { visit(id: $id) { nextStatuses } }", json!({"id": booked["id"]})).await;
        assert_eq!(later["visit"]["nextStatuses"], json!(["COMPLETED", "ENDED", "NO_SHOW"]));
    }

    async fn times_that_are_taken_are_refused(app: TestApp) {
        let (desk, doctor) = open(app).await;
        let (a, b) = (patient(&desk, "A").await, patient(&desk, "B").await);
        let booking = json!({"patientId": a, "doctorId": doctor, "scheduledAt": "2025-06-20T02:00:00Z", "durationMinutes": 60});
        let first = desk.mutate("recordVisit", booking.clone(), "visit { id version }").await["visit"].take();
        let refused = async |input: Value| {
            let response = desk.mutation_response("recordVisit", input, "visit { id }").await;
            assert_eq!(response["errors"][0]["extensions"]["code"], "SLOT_TAKEN", "{response}");
            extensions(&response)
        };
        // From 11:30 to 12:30: the doctor is busy, and has a break. 13:00 is the next free time of half an hour.
        let late = json!({"patientId": b, "doctorId": doctor, "scheduledAt": "2025-06-20T02:30:00Z", "durationMinutes": 60});
        let taken = refused(late.clone()).await;
        assert_eq!((&taken["argument"], &taken["conflicts"]), (&json!("input.scheduledAt"), &json!(["DOCTOR_BUSY", "OUTSIDE_HOURS"])));
        assert_eq!(taken["nextFree"][0], json!({"starts": "2025-06-20T04:00:00Z", "ends": "2025-06-20T05:00:00Z"}));
        assert_eq!(taken["nextFree"].as_array().unwrap().len(), 5);
        // The patient is elsewhere, without a doctor.
        let both = json!({"patientId": a, "scheduledAt": "2025-06-20T02:59:00Z"});
        assert_eq!(refused(both).await["conflicts"], json!(["PATIENT_BUSY"]));
        // Visits that touch do not overlap.
        let next = json!({"patientId": b, "doctorId": doctor, "scheduledAt": "2025-06-20T01:30:00Z"});
        let next = desk.mutate("recordVisit", next, "visit { id version }").await["visit"].take();
        // Moved and extended.
        let moved = json!({"id": next["id"], "version": 1, "durationMinutes": 31});
        assert_eq!(desk.mutation_error("changeVisit", moved).await, error("SLOT_TAKEN", "input.scheduledAt"));
        // Away, and closed.
        app.execute("INSERT INTO absence (hospital_id, doctor_id, starts, ends) SELECT hospital_id, id, '2025-06-23 00:00:00', '2025-06-23 03:00:00' FROM doctor WHERE name = 'Dr Ahn'").await;
        app.execute("INSERT INTO absence (hospital_id, starts, ends) SELECT id, '2025-06-23 15:00:00', '2025-06-24 15:00:00' FROM hospital WHERE code = 'H1'").await;
        let on = |at: &str| json!({"patientId": b, "doctorId": doctor, "scheduledAt": at});
        assert_eq!(refused(on("2025-06-23T02:30:00Z")).await["conflicts"], json!(["DOCTOR_ABSENT"]));
        let closed = refused(on("2025-06-24T01:00:00Z")).await;
        assert_eq!((&closed["conflicts"], &closed["nextFree"][0]["starts"]), (&json!(["HOSPITAL_CLOSED"]), &json!("2025-06-25T00:00:00Z")));
        // By force, with a reason; the audit says so.
        let force = |reason: Value| with(&late, json!({"force": true, "reason": reason}));
        assert_eq!(desk.mutation_error("recordVisit", force(Value::Null)).await, error("BAD_USER_INPUT", "input.reason"));
        let forced = desk.mutate("recordVisit", force(json!("Emergency")), "visit { id version }").await["visit"].take();
        let admin = app.sign_in("admin").await;
        let what = admin.graphql("{ audit(first: 1, filter: {actions: [CHANGED]}) { nodes { what } } }").await;
        assert_eq!(what["audit"]["nodes"][0]["what"], "recordVisit by force");
        // What has its time keeps it, whatever else changes.
        let check_in = |visit: &Value| json!({"id": visit["id"], "version": visit["version"], "status": "CHECKED_IN"});
        desk.mutate("changeVisit", check_in(&forced), "visit { id }").await;
        // A visit that gave its time back has to find it free again.
        let cancel = json!({"id": first["id"], "version": 1, "status": "CANCELED"});
        desk.mutate("changeVisit", cancel, "visit { id }").await;
        let again = json!({"id": first["id"], "version": 2, "status": "BOOKED"});
        assert_eq!(desk.mutation_error("changeVisit", again.clone()).await, error("SLOT_TAKEN", "input.scheduledAt"));
        desk.mutate("changeVisit", with(&again, json!({"force": true, "reason": "Both"})), "visit { id }").await;
        // A second open check-in with the same doctor.
        let walk_in = json!({"patientId": b, "doctorId": doctor, "date": TODAY, "status": "CHECKED_IN", "channel": "WALK_IN"});
        let response = refused(walk_in).await;
        assert_eq!((&response["argument"], &response["conflicts"]), (&json!("input.status"), &json!(["ALREADY_CHECKED_IN"])));
        // A booking with a doctor who has hours needs a time; a walk-in does not.
        let timeless = json!({"patientId": a, "doctorId": doctor, "date": "2025-06-25"});
        assert_eq!(desk.mutation_error("recordVisit", timeless).await, error("BAD_USER_INPUT", "input.scheduledAt"));
        desk.mutate("recordVisit", json!({"patientId": a, "date": "2025-06-25"}), "visit { id }").await;
    }

    async fn tentative_bookings_lapse(app: TestApp) {
        let (desk, doctor) = open(app).await;
        let (a, b) = (patient(&desk, "A").await, patient(&desk, "B").await);
        let book = |patient: &Value| json!({"patientId": patient, "doctorId": doctor, "scheduledAt": "2025-06-27T02:00:00Z", "status": "TENTATIVE"});
        let all = "visit { id version status expiresAt }";
        let held = desk.mutate("recordVisit", book(&a), all).await["visit"].take();
        assert_eq!(held["expiresAt"], "2025-06-21T01:00:00Z", "a day by default");
        assert_eq!(desk.mutation_error("recordVisit", book(&b)).await, error("SLOT_TAKEN", "input.scheduledAt"));
        // At that instant its time is free, and nobody had to run meanwhile.
        app.set_time("2025-06-21T01:00:00Z");
        let other = desk.mutate("recordVisit", book(&b), all).await["visit"].take();
        let confirm = json!({"id": held["id"], "version": 1, "status": "BOOKED"});
        assert_eq!(desk.mutation_error("changeVisit", confirm).await, error("SLOT_TAKEN", "input.scheduledAt"));
        let confirmed = desk.mutate("changeVisit", json!({"id": other["id"], "version": 1, "status": "BOOKED"}), all).await;
        assert_eq!((&confirmed["visit"]["status"], &confirmed["visit"]["expiresAt"]), (&json!("BOOKED"), &Value::Null));
        // A server's start sweeps; visits that an import or SQL brought do not lapse.
        app.execute("UPDATE visit SET status = 'TENTATIVE' WHERE visit_no = '11'").await;
        let server = app.second_server();
        let of = json!({"id": held["id"]});
        for _ in 0..100 {
            let now = desk.graphql_with("query ($id: ID!) { visit(id: $id) { status version } }", of.clone()).await;
            if now["visit"] == json!({"status": "CANCELED", "version": 2}) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        drop(server);
        let lapse = "query ($id: ID!) { visit(id: $id) { history(first: 1) { nodes { by { id } source reason fields { field before after } } } } }";
        let lapse = desk.graphql_with(lapse, of).await["visit"]["history"]["nodes"].take();
        let fields = json!([{"field": "status", "before": "TENTATIVE", "after": "CANCELED"}, {"field": "expiresAt", "before": "2025-06-21 10:00", "after": null}]);
        assert_eq!(lapse, json!([{"by": null, "source": "lapseBookings", "reason": "lapsed", "fields": fields}]));
        let kept = "SELECT COUNT(*) FROM visit WHERE status = 'TENTATIVE' AND visit_no = '11'";
        assert_eq!(app.query_value::<i64>(kept).await, 1);
    }

    async fn a_days_list_and_the_waiting_room_are_in_order(app: TestApp) {
        let (desk, doctor) = open(app).await;
        let [a, b, c] = [patient(&desk, "A").await, patient(&desk, "B").await, patient(&desk, "C").await];
        let book = async |patient: &Value, at: &str| {
            let input = json!({"patientId": patient, "doctorId": doctor, "scheduledAt": at});
            desk.mutate("recordVisit", input, "visit { id }").await["visit"]["id"].take()
        };
        let late = book(&a, "2025-06-20T05:00:00Z").await;
        let early = book(&b, "2025-06-20T02:00:00Z").await;
        let untimed = desk.mutate("recordVisit", json!({"patientId": c, "date": TODAY, "status": "CHECKED_IN"}), "visit { id }").await["visit"]["id"].take();
        let query = "query ($date: Date!, $filter: VisitFilter) { visitsOn(date: $date, filter: $filter) { date revision visits { id patient { chartNo } doctor { name } } } }";
        let day = desk.graphql_with(query, json!({"date": TODAY})).await["visitsOn"].take();
        let ids = |list: &Value| list.as_array().unwrap().iter().map(|visit| visit["id"].clone()).collect::<Vec<_>>();
        assert_eq!(ids(&day["visits"]), [early.clone(), late.clone(), untimed.clone()]);
        // The later one comes first.
        for (at, id) in [("2025-06-20T01:30:00Z", &late), ("2025-06-20T01:40:00Z", &early)] {
            app.set_time(at);
            desk.mutate("changeVisit", json!({"id": id, "version": 1, "status": "CHECKED_IN"}), "visit { id }").await;
        }
        let after = desk.graphql_with(query, json!({"date": TODAY, "filter": {"doctorIds": [doctor]}})).await["visitsOn"].take();
        assert_eq!(ids(&after["visits"]), [early.clone(), late.clone()]);
        assert_ne!(after["revision"], day["revision"]);
        let rooms = "query ($field: VisitOrderField!, $after: String, $day: Date!) { visits(first: 2, after: $after, orderBy: {field: $field}, filter: {dates: {from: $day, to: $day}}) { nodes { id } pageInfo { endCursor hasNextPage } totalCount } }";
        let mut pages = Vec::new();
        for field in ["CHECKED_IN_AT", "SCHEDULED_AT"] {
            let mut after = Value::Null;
            let mut all = Vec::new();
            loop {
                let page = desk.graphql_with(rooms, json!({"field": field, "after": after, "day": TODAY})).await["visits"].take();
                all.extend(ids(&page["nodes"]));
                assert_eq!(page["totalCount"], 3);
                if page["pageInfo"]["hasNextPage"] == false {
                    break;
                }
                after = page["pageInfo"]["endCursor"].clone();
            }
            pages.push(all);
        }
        // The walk-in was checked in first, and has no time.
        assert_eq!(pages[0], [untimed.clone(), late.clone(), early.clone()]);
        assert_eq!(pages[1], [early, late, untimed]);
        let wrong = desk.graphql_response(query, json!({"date": TODAY, "filter": {"dates": {"from": "2025-06-21", "to": "2025-06-22"}}})).await;
        assert_eq!((&wrong["errors"][0]["extensions"]["code"], &wrong["errors"][0]["extensions"]["argument"]), (&json!("BAD_USER_INPUT"), &json!("filter.dates")));
    }

    /// Hundreds of bookings of the same hour, of few patients, sent to two servers at once: no two overlap.
    async fn no_time_is_booked_twice(app: TestApp) {
        let (desk, doctor) = open(app).await;
        let second = app.second_server();
        let other = app.sign_in_at(&second.base, "H1", "admin").await;
        let mut patients = Vec::new();
        for chart_no in ["A", "B", "C", "D", "E"] {
            patients.push(patient(&desk, chart_no).await);
        }
        let sends = (0..300_usize).map(|i| {
            let client = if i % 2 == 0 { &desk } else { &other };
            let minute = i * 7 % 60;
            let mut input = json!({"patientId": patients[i % 5], "durationMinutes": 10 + i % 3 * 10, "scheduledAt": format!("2025-06-20T02:{minute:02}:00Z")});
            // Some without a doctor: the patient is busy, too.
            if i % 4 > 0 {
                input["doctorId"] = doctor.clone();
            }
            client.mutation_response("recordVisit", input, "visit { id }")
        });
        let mut booked = 0;
        for response in join_all(sends).await {
            match response["errors"][0]["extensions"]["code"].as_str() {
                None => booked += 1,
                Some("SLOT_TAKEN" | "BUSY") => {}
                Some(_) => panic!("{response}"),
            }
        }
        assert!(booked >= 3, "{booked}");
        let day = desk.graphql(&format!("{{ visitsOn(date: \"{TODAY}\") {{ visits {{ patient {{ id }} doctor {{ id }} scheduledAt endsAt }} }} }}")).await;
        let visits = day["visitsOn"]["visits"].as_array().unwrap();
        assert_eq!(visits.len(), booked);
        for (i, one) in visits.iter().enumerate() {
            for other in &visits[i + 1..] {
                let apart = other["scheduledAt"].as_str() >= one["endsAt"].as_str();
                let same_doctor = !one["doctor"].is_null() && one["doctor"] == other["doctor"];
                assert!(apart || !same_doctor && one["patient"] != other["patient"], "{one} and {other}");
            }
        }
    }

    /// A booking waits for one that is being written, and sees it.
    async fn a_booking_sees_what_was_committed_before_it(app: TestApp) {
        if app.sql.get_database_backend() == DbBackend::Sqlite {
            return; // Has one writer at a time.
        }
        let (desk, doctor) = open(app).await;
        let a = patient(&desk, "A").await;
        let transaction = app.sql.begin().await.unwrap();
        let sql = "INSERT INTO visit (hospital_id, patient_id, doctor_id, date, scheduled_at, status, channel)
            SELECT p.hospital_id, p.id, d.id, '2025-06-20', '2025-06-20 02:00:00', 'BOOKED', 'OTHER' FROM patient p, doctor d
            WHERE p.chart_no = 'B' AND d.name = 'Dr Ahn'";
        sea_orm::ConnectionTrait::execute_unprepared(&transaction, sql).await.unwrap();
        let input = json!({"patientId": a, "doctorId": doctor, "scheduledAt": "2025-06-20T02:10:00Z"});
        let commit = async {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            transaction.commit().await.unwrap();
        };
        let (refused, ()) = tokio::join!(desk.mutation_error("recordVisit", input), commit);
        assert_eq!(refused, error("SLOT_TAKEN", "input.scheduledAt"));
    }
}
