//! The number of SQL statements is independent of the number of rows on a page.

use serde_json::json;
use test_support::{EXAMPLE, on_each_database};

on_each_database! {
    async fn statement_count_is_independent_of_page_size(app: TestApp) {
        let patients: String = (0..60).map(|i| format!("{i:03},Name {i}\n")).collect();
        app.import("patients", "H1", &format!("chart_no,name\n{patients}"));
        let visits: String = (0..180)
            .map(|i| format!("{i},{:03},2025-05-{:02},COMPLETED,Dep {},Doc {}\n", i % 60, i % 28 + 1, i % 5, i % 7))
            .collect();
        app.import("visits", "H1", &format!("visit_no,chart_no,date,status,department,doctor\n{visits}"));
        let (user, admin) = (app.sign_in("desk").await, app.sign_in("admin").await);
        let row = "id name visitCount firstVisit { date department { name } } lastVisit { date } nextVisit { date }
            visits(first: 3) { totalCount nodes { date department { name } doctor { name department { name } } } }";
        let history = "history(first: 3) { totalCount nodes { at by { name } fields { field before after } } }";
        let cohort = |list: &str| format!("{{ {EXAMPLE} {{ total {{ visitors {{ patientCount {list} }} }} }} }}");
        let cohort_id = user.graphql(&cohort("id")).await["statistics"]["total"]["visitors"]["id"].take();
        // Nobody has a phone: some of the lists are empty, and leave everybody out.
        for number in 0..14 {
            let input = json!({"name": number.to_string(), "cohortId": cohort_id, "withPhone": number % 2 == 0});
            user.mutate("createRecallList", input, "list { id }").await;
        }
        for day in 10..31 {
            let question = EXAMPLE.replace("2025-08-31", &format!("2025-08-{day}"));
            let id = user.graphql(&format!("{{ {question} {{ id }} }}")).await["statistics"]["id"].take();
            admin.mutate("pinSnapshot", json!({"id": id, "label": format!("August {day}")}), "statistics { id }").await;
        }
        let entry = "patient { name } assignee { name } contacts { by { name } note } returnedOn";
        let lists = user.graphql("{ recallLists(first: 2) { nodes { id patientCount } } }").await["recallLists"]["nodes"].take();
        let list = &lists[0];
        assert_eq!((&list["patientCount"], &lists[1]["patientCount"]), (&json!(60), &json!(0)));
        for month in 1..=12 {
            admin.mutate("sealMonth", json!({"month": format!("2024-{month:02}-01")}), "statement { id }").await;
        }
        let queries = [
            "{ statements(first: SIZE) { totalCount nodes { month sealedBy { name } previous { digest } statistics { asOf pinnedAt } } } }".to_owned(),
            "{ pinnedSnapshots(first: SIZE) { totalCount nodes { id label asOf definition { version } pinnedAt pinnedBy { name } } } }".to_owned(),
            "{ recallLists(first: SIZE) { totalCount nodes { cohort { patientCount } createdBy { name } patientCount returnedCount returnRate
                a: returnedWithin(days: 30) b: returnedWithin(days: 60) outcomes { patientCount } leftOut { patientCount patients(first: 3) { totalCount nodes { name } } } } } }".to_owned(),
            format!("{{ recallLists(first: SIZE) {{ nodes {{ entries(first: 3) {{ totalCount nodes {{ {entry} }} }} untouched: entries(filter: {{untouched: true}}) {{ totalCount }} }} }} }}"),
            format!("{{ recallList(id: {}) {{ entries(first: SIZE) {{ nodes {{ {entry} list {{ name }} }} }} }} }}", list["id"]),
            cohort(&format!("patients(first: SIZE) {{ totalCount edges {{ cursor visitCount node {{ {row} }} }} }}")),
            cohort(&format!("visits(first: SIZE) {{ edges {{ node {{ date department {{ name }} doctor {{ name }} patient {{ {row} }} }} }} }}")),
            format!("{{ patients(first: SIZE) {{ totalCount nodes {{ {row} }} }} }}"),
            format!("{{ visits(first: SIZE) {{ nodes {{ patient {{ {row} }} doctor {{ name }} }} }} }}"),
            format!("{{ patients(first: SIZE) {{ nodes {{ {history} }} }} }}"),
            format!("{{ visits(first: SIZE) {{ nodes {{ {history} }} }} }}"),
        ];
        let cost = async |query: &str| {
            let before = app.metric("rollcall_database_statements_total").await;
            user.graphql(query).await;
            app.metric("rollcall_database_statements_total").await - before
        };
        for query in queries {
            let query = |size: &str| query.replace("SIZE", size);
            // The first request loads the ledger and stores the orders.
            user.graphql(&query("50")).await;
            let (few, many) = (cost(&query("5")).await, cost(&query("50")).await);
            assert_eq!(few, many, "{}", query("5"));
            assert!(many < 15, "{many} statements");
        }
    }
}
