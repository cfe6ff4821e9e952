//! Text in every Unicode normalization form, case and width.

use migration::{Migrator, MigratorTrait as _};
use serde_json::{Value, json};
use test_support::{Client, PASSWORD, on_each_database};

/// 김영수 and José, composed as on most systems and decomposed as on macOS.
const KIM: &str = "김영수";
const KIM_NFD: &str = "\u{1100}\u{1175}\u{11b7}\u{110b}\u{1167}\u{11bc}\u{1109}\u{116e}";
const JOSE: &str = "Jos\u{e9}";
const JOSE_NFD: &str = "Jose\u{301}";

/// The concatenated chart numbers of the patients found.
async fn found(user: &Client<'_>, text: &str) -> String {
    let query = "query ($text: String) { patients(filter: {search: $text}) { totalCount nodes { chartNo } } }";
    let response = user.graphql_with(query, json!({"text": text})).await;
    let nodes = response["patients"]["nodes"].as_array().unwrap();
    assert_eq!(response["patients"]["totalCount"], nodes.len(), "{text}");
    nodes.iter().map(|node| node["chartNo"].as_str().unwrap()).collect()
}

fn names(list: &Value) -> Vec<&str> {
    let list = list.as_array().unwrap().iter();
    list.map(|row| row["name"].as_str().unwrap()).collect()
}

on_each_database! {
    async fn search_ignores_the_unicode_form_of_names(app: TestApp) {
        app.import("patients", "H1", &format!("chart_no,name\nA,Ann   Ash\nB,{KIM_NFD}\nC,{JOSE_NFD} Cox\nD,STRASSE\nE,{KIM}\nＦ1,\n"));
        let front_desk = app.sign_in("desk").await;
        let list = front_desk.graphql("{ patients { nodes { name } } }").await;
        assert_eq!(names(&list["patients"]["nodes"]), ["Ann   Ash", KIM, "José Cox", "STRASSE", KIM, ""]);
        for (text, charts) in [
            ("ＡＮＮ　ash", "A"), ("ann ash", "A"), ("  Ann \u{a0} a ", "A"), ("annash", "A"), ("n a", ""), (KIM, "BE"), (KIM_NFD, "BE"), ("영", "BE"),
            (JOSE, "C"), ("JOSE\u{301}", "C"), ("jose", ""), ("straße", "D"), ("STRASSE", "D"), ("Ｆ", "Ｆ1"), ("%", ""), ("_", ""),
        ] {
            assert_eq!(found(&front_desk, text).await, charts, "{text}");
        }
        // The same file again, in the other form.
        assert_eq!(app.import("patients", "H1", &format!("chart_no,name\nB,{KIM}\nC,{JOSE} Cox\nE,{KIM_NFD}\n")),
            "3 rows read: 0 inserted, 0 changed, 3 unchanged, 0 conflicts, 0 refused, 0 blank; 0 values left empty\n");
        // Imports and mutations update the folded form.
        app.import("patients", "H1", "chart_no,name\nA,Bea Bay\n");
        assert_eq!((found(&front_desk, "ANN").await, found(&front_desk, "BEA").await), (String::new(), "A".to_owned()));
        let bea = front_desk.graphql("{ patients(first: 1) { nodes { id version } } }").await["patients"]["nodes"][0].take();
        front_desk.mutate("changePatient", json!({"id": bea["id"], "version": bea["version"], "name": "bea bay"}), "patient { id }").await;
        assert_eq!(found(&front_desk, "BEA").await, "A");
        // SUPPORT cannot search by name, whatever the width.
        let support = app.sign_in("support").await;
        support.expect_error("{ patients(filter: {search: \"ｂｅａ\"}) { totalCount } }", "FORBIDDEN").await;
    }

    async fn search_ignores_the_width_of_numbers(app: TestApp) {
        app.import_example();
        app.import("patients", "H1", "chart_no,phone\n0071,０１０－３３３３－４４４４\n");
        for login in ["desk", "support"] {
            let user = app.sign_in(login).await;
            for (text, chart) in [("０１０-１１１１-０００１", "A"), ("＋８２ １０ ３３３３ ４４４４", "0071"), ("００７１", "0071"), ("００7", "0071")] {
                assert_eq!(found(&user, text).await, chart, "{login} {text}");
            }
        }
    }

    async fn equivalent_names_and_numbers_are_not_duplicated(app: TestApp) {
        let header = "visit_no,chart_no,date,status,department,doctor\n";
        app.import("patients", "H1", "chart_no\nA\u{c5}\n");
        app.import("visits", "H1", &format!("{header}v\u{e9}1,AA\u{30a},2025-05-11,COMPLETED,Ge\u{301}ne\u{301}rale,Dr {JOSE_NFD}\n"));
        let again = format!("{header}ve\u{301}1,A\u{c5},2025-05-11,COMPLETED,G\u{e9}n\u{e9}rale,Dr {JOSE}\n");
        assert_eq!(app.import("visits", "H1", &again), "1 rows read: 0 inserted, 0 changed, 1 unchanged, 0 conflicts, 0 refused, 0 blank; 0 values left empty\n");
        let admin = app.sign_in("admin").await;
        let hospital = admin.graphql("{ hospital { departments { name } doctors { name } } }").await["hospital"].take();
        assert_eq!(names(&hospital["departments"]), ["G\u{e9}n\u{e9}rale"]);
        assert_eq!(names(&hospital["doctors"]), ["Dr Jos\u{e9}"]);
        let refused = async |name: &str, input: Value, argument: &str| {
            assert_eq!(admin.mutation_error(name, input).await, ("BAD_USER_INPUT".to_owned(), argument.to_owned()), "{name}");
        };
        refused("addDepartment", json!({"name": "Ge\u{301}ne\u{301}rale"}), "input.name").await;
        refused("addDoctor", json!({"name": format!("Dr {JOSE_NFD}")}), "input.name").await;
        refused("registerPatient", json!({"chartNo": "AA\u{30a}"}), "input.chartNo").await;
        let made = admin.mutate("registerPatient", json!({"chartNo": "Z", "name": KIM_NFD, "memo": JOSE_NFD}), "patient { name memo }").await;
        assert_eq!(made["patient"], json!({"name": KIM, "memo": JOSE}));
        // One form may have more characters than the other: the stored form is counted.
        let long = "e\u{301}".repeat(255);
        let made = admin.mutate("addDepartment", json!({"name": long}), "department { name }").await;
        assert_eq!(made["department"]["name"], "\u{e9}".repeat(255));
    }

    async fn headers_and_mappings_are_normalized(app: TestApp) {
        let file = app.write_file("rows.csv", format!("{KIM_NFD},nume\u{301}ro,e\u{301}tat,jour\nA,1,termine\u{301},2025-05-11\n"));
        let mapping = app.write_file("mapping.toml", format!("brings_patients = true\n[columns]\nchart_no = \"{KIM}\"\nvisit_no = \"num\u{e9}ro\"\n\
            status = \"e\u{301}tat\"\ndate = \"jour\"\n[statuses]\n\"termin\u{e9}\" = \"COMPLETED\"\n[constants]\ndepartment = \"Ge\u{301}n\u{e9}rale\"\n"));
        let printed = app.run_cli(&["import", "visits", "--hospital", "H1", file.to_str().unwrap(), "--mapping", mapping.to_str().unwrap()]);
        assert!(printed.contains(": 1 inserted"), "{printed}");
        let hospital = app.sign_in("desk").await.graphql("{ hospital { departments { name } } }").await["hospital"].take();
        assert_eq!(names(&hospital["departments"]), ["G\u{e9}n\u{e9}rale"]);
    }

    async fn logins_are_normalized(app: TestApp) {
        let code = ["HOP-\u{c9}", "HOP-E\u{301}"];
        app.run_cli(&["hospital", "add", "--code", code[1], "--name", "Two", "--time-zone", "Europe/Paris"]);
        let taken = app.try_run_cli(&["hospital", "add", "--code", code[0], "--name", "Two", "--time-zone", "Europe/Paris"]);
        assert!(!taken.status.success());
        let add = |code, login| ["staff", "add", "--hospital", code, "--login", login, "--name", "J", "--role", "desk"];
        app.run_cli_with_input(&add(code[0], JOSE_NFD), &format!("{PASSWORD} e\u{301}"));
        let signs_in = async |code: &str, login: &str, password: &str| {
            let query = "mutation ($i: SignInInput!) { signIn(input: $i) { session { accessToken } } }";
            let input = json!({"hospital": code, "login": login, "password": password});
            app.post(app.base(), None, query, json!({"i": input})).await.get("errors").is_none()
        };
        let password = format!("{PASSWORD} e\u{301}");
        for code in code {
            for login in [JOSE, JOSE_NFD] {
                assert!(signs_in(code, login, &password).await, "{code:?} {login:?}");
            }
        }
        // Passwords are compared byte by byte.
        assert!(!signs_in(code[0], JOSE, &format!("{PASSWORD} \u{e9}")).await);
        for (what, login) in [("disable", JOSE), ("enable", JOSE_NFD)] {
            app.run_cli(&["staff", what, "--hospital", code[1], "--login", login]);
            assert_eq!(signs_in(code[0], JOSE, &password).await, what == "enable");
        }
        let taken = app.try_run_cli(&add(code[1], JOSE));
        assert!(!taken.status.success());
    }

    async fn existing_rows_are_normalized_once(app: TestApp) {
        app.import("patients", "H1", &format!("chart_no,name\nA\u{c5},{KIM}\nB\u{c5},{JOSE}\nB,\n"));
        app.import("visits", "H1", "visit_no,chart_no,date,status,department,doctor\nv\u{e9},B,2025-05-11,COMPLETED,G\u{e9}n,Dr \u{e9}\n");
        let steps = Migrator::migrations();
        let at = steps.iter().position(|step| step.name() == "m0014_text").unwrap();
        let above = u32::try_from(steps.len() - at).unwrap();
        Migrator::down(&app.sql, Some(above)).await.unwrap();
        for statement in [
            format!("UPDATE patient SET chart_no = 'AA\u{30a}', name = '{KIM_NFD}' WHERE chart_no = 'A\u{c5}'"),
            // Another row has this number in NFC.
            "UPDATE patient SET chart_no = 'BA\u{30a}' WHERE chart_no = 'B'".to_owned(),
            "UPDATE visit SET visit_no = 've\u{301}'".to_owned(),
            "UPDATE department SET name = 'Ge\u{301}n'".to_owned(),
            "UPDATE doctor SET name = 'Dr e\u{301}'".to_owned(),
            "INSERT INTO doctor (hospital_id, name) SELECT id, 'Dr \u{e9}' FROM hospital".to_owned(),
            "UPDATE hospital SET code = 'He\u{301}', name = 'Hoe\u{301}'".to_owned(),
            "UPDATE staff SET login = 'de\u{301}sk', name = 'De\u{301}sk' WHERE login = 'desk'".to_owned(),
        ] {
            app.execute(&statement).await;
        }
        let output = app.try_run_cli(&["migrate"]);
        let printed = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{printed}");
        // Two rows stay unchanged; the log says where, without their text.
        let left: Vec<&str> = printed.lines().filter(|line| line.contains("NFC")).collect();
        assert_eq!(left.len(), 2, "{printed}");
        for (line, column) in left.iter().zip([r#""table":"doctor","column":"name","rows":1"#, r#""table":"patient","column":"chart_no","rows":1"#]) {
            assert!(line.contains(column), "{line}");
        }
        assert!(!printed.contains('\u{30a}') && !printed.contains('\u{301}'), "{printed}");
        let second = app.second_server();
        let front_desk = app.sign_in_at(&second.base, "H\u{e9}", "d\u{e9}sk").await;
        assert_eq!(found(&front_desk, KIM).await, "A\u{c5}");
        assert_eq!(found(&front_desk, "JOS\u{e9}").await, "B\u{c5}");
        let response = front_desk.graphql("{ viewer { name } hospital { name departments { name } doctors { name } } visits { nodes { visitNo } } }").await;
        assert_eq!(response["viewer"]["name"], "D\u{e9}sk");
        assert_eq!(response["hospital"]["name"], "Ho\u{e9}");
        assert_eq!(names(&response["hospital"]["departments"]), ["G\u{e9}n"]);
        assert_eq!(names(&response["hospital"]["doctors"]), ["Dr e\u{301}", "Dr \u{e9}"]);
        assert_eq!(response["visits"]["nodes"][0]["visitNo"], "v\u{e9}");
        assert_eq!(app.query_number("SELECT COUNT(*) FROM patient WHERE chart_no = 'BA\u{30a}'").await, 1);
    }
}
