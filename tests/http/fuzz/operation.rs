//! Operations generated from the schema: valid, or nearly so.

use std::collections::HashMap;
use std::fmt::Write as _;

use async_graphql::indexmap::IndexMap;
use async_graphql::parser::types::{
    BaseType, FieldDefinition, InputValueDefinition, Type, TypeKind, TypeSystemDefinition,
};
use async_graphql::{Name, Positioned, Value};
use serde_json::{Map, json};

use super::choices::Choices;
use super::pool::IdPool;

pub struct Grammar {
    types: HashMap<String, TypeKind>,
}

impl Grammar {
    pub fn new(schema: &str) -> Self {
        let document = async_graphql::parser::parse_schema(schema).unwrap();
        let types = document
            .definitions
            .into_iter()
            .filter_map(|definition| match definition {
                TypeSystemDefinition::Type(of) => Some((of.node.name.node.to_string(), of.node.kind)),
                _ => None,
            });
        Self { types: types.collect() }
    }

    /// Fields of an object or interface, those without selections first; none for other types.
    fn fields(&self, of: &str) -> Vec<&FieldDefinition> {
        let fields = match self.types.get(of) {
            Some(TypeKind::Object(object)) => &object.fields,
            Some(TypeKind::Interface(interface)) => &interface.fields,
            _ => return Vec::new(),
        };
        let mut fields: Vec<_> = fields.iter().map(|field| &field.node).collect();
        fields.sort_by_key(|field| self.is_composite(named(&field.ty.node)));
        fields
    }

    fn is_composite(&self, of: &str) -> bool {
        matches!(
            self.types.get(of),
            Some(TypeKind::Object(_) | TypeKind::Interface(_) | TypeKind::Union(_))
        )
    }

    /// The object types of this type.
    fn possible<'a>(&'a self, of: &'a str) -> Vec<&'a str> {
        let Some(TypeKind::Interface(_)) = self.types.get(of) else {
            return vec![of];
        };
        let implements = |kind: &TypeKind| match kind {
            TypeKind::Object(object) => object.implements.iter().any(|interface| interface.node == of),
            _ => false,
        };
        let objects = self.types.iter().filter(|(_, kind)| implements(kind));
        let mut possible: Vec<_> = objects.map(|(name, _)| name.as_str()).collect();
        possible.sort_unstable();
        possible
    }
}

fn named(of: &Type) -> &str {
    match &of.base {
        BaseType::Named(name) => name,
        BaseType::List(of) => named(of),
    }
}

/// The parameters of a GraphQL request.
pub struct Operation {
    pub query: String,
    pub variables: Map<String, serde_json::Value>,
    pub name: Option<String>,
}

impl Operation {
    pub fn body(&self) -> serde_json::Value {
        json!({"query": self.query, "variables": self.variables, "operationName": self.name})
    }
}

/// The depth at which a selection ends; sometimes beyond what is allowed.
const DEPTHS: [usize; 8] = [3, 4, 5, 6, 7, 8, 12, 22];

pub fn operation(grammar: &Grammar, pool: &IdPool, choices: &mut Choices<'_>) -> Operation {
    let deepest = choices.of(&DEPTHS);
    let mut writer = OperationBuilder {
        grammar,
        pool,
        choices,
        deepest,
        declared: Vec::new(),
        variables: Map::new(),
        fragments: Vec::new(),
        aliases: 0,
    };
    let (kind, root) = match writer.choices.below(100) {
        0..=66 => ("query", "Query"),
        67..=98 => ("mutation", "Mutation"),
        _ => ("subscription", "Query"),
    };
    let selection = writer.selection(root, 0);
    let declared = match writer.declared.as_slice() {
        [] => String::new(),
        declared => format!("({})", declared.join(", ")),
    };
    let mut query = format!("{kind} Asks{declared} {selection}");
    let (mut name, last) = (None, writer.choices.below(60));
    match last {
        1 => name = Some("Asks".to_owned()),
        2 => name = Some(odd_text(writer.choices)),
        3 => query += " query Other { __typename }",
        4 => {
            query += " query Other { __typename }";
            name = Some("Asks".to_owned());
        }
        5 => query += " query Asks { __typename }",
        6 => query += " fragment Unused on Query { __typename }",
        7 => {
            query += " { __schema { types { name fields { name type { name } } } } __type(name: \"Patient\") { name } }"
        }
        8 => {
            query = format!(
                "{{ __schema {{ types {{ name fields {{ name }} }} }} {}",
                &selection[1..]
            )
        }
        9 => query += " type Query { a: Int }",
        10 => query.insert(0, '\u{feff}'),
        _ => {}
    }
    for fragment in &writer.fragments {
        query += fragment;
    }
    Operation {
        query,
        variables: writer.variables,
        name,
    }
}

struct OperationBuilder<'a, 'b, 'c> {
    grammar: &'a Grammar,
    pool: &'a IdPool,
    choices: &'b mut Choices<'c>,
    deepest: usize,
    /// Variable definitions.
    declared: Vec<String>,
    variables: Map<String, serde_json::Value>,
    fragments: Vec<String>,
    aliases: usize,
}

impl OperationBuilder<'_, '_, '_> {
    fn selection(&mut self, of: &str, depth: usize) -> String {
        let fields = self.grammar.fields(of);
        let most = if depth < 4 { 4 } else { 2 };
        let many = match self.choices.below(400) {
            399 => 250,
            many => 1 + many % most,
        };
        let mut text = "{ ".to_owned();
        for _ in 0..many {
            let item = match self.choices.below(40) {
                36 => "__typename".to_owned(),
                37 => self.inline(of, depth),
                38 => self.spread(of, depth),
                39 if self.choices.once_in(4) => odd_name(self.choices).to_owned(),
                _ => {
                    let ends = self.choices.exhausted() || depth >= self.deepest;
                    let end = fields
                        .iter()
                        .filter(|field| !ends || !self.grammar.is_composite(named(&field.ty.node)));
                    match end.collect::<Vec<_>>().as_slice() {
                        [] => "__typename".to_owned(),
                        fields => {
                            let field = self.choices.of(fields);
                            self.field(field, depth)
                        }
                    }
                }
            };
            text += &item;
            text.push(' ');
        }
        // For an interface, one of its object types.
        if let Some(TypeKind::Interface(_)) = self.grammar.types.get(of)
            && depth < self.deepest
        {
            text += &self.inline(of, depth);
        }
        text + " }"
    }

    fn field(&mut self, field: &FieldDefinition, depth: usize) -> String {
        let name = field.name.node.as_str();
        let mut text = String::new();
        // The same field with other arguments needs an alias.
        if !field.arguments.is_empty() && !self.choices.once_in(30) || self.choices.once_in(12) {
            self.aliases += 1;
            let _ = write!(text, "a{}: ", self.aliases);
        }
        text += name;
        text += &self.arguments(&field.arguments, name);
        text.push(' ');
        text += &self.directives();
        let of = named(&field.ty.node);
        // Sometimes an invalid selection: one on a scalar, or none on an object.
        if self.grammar.is_composite(of) != self.choices.once_in(200) {
            text += &match self.grammar.is_composite(of) {
                true => self.selection(of, depth + 1),
                false => "{ id }".to_owned(),
            };
        }
        text
    }

    fn inline(&mut self, of: &str, depth: usize) -> String {
        let possible = self.grammar.possible(of);
        let of = match self.choices.below(30) {
            29 => self.choices.of(&["Patient", "Query", "Nothing", "Int"]),
            _ => self.choices.of(&possible),
        };
        let condition = if self.choices.once_in(8) {
            String::new()
        } else {
            format!("on {of} ")
        };
        let directives = self.directives();
        format!("... {condition}{directives} {}", self.selection(of, depth + 1))
    }

    fn spread(&mut self, of: &str, depth: usize) -> String {
        if depth >= self.deepest {
            return "__typename".to_owned();
        }
        let name = format!("F{}", self.fragments.len());
        // Reserves its index before nested fragments are added.
        self.fragments.push(String::new());
        let place = self.fragments.len() - 1;
        let mut selection = self.selection(of, depth + 1);
        match self.choices.below(60) {
            58 => selection = format!("{{ ...{name} }}"),
            59 => return "...Unknown".to_owned(),
            _ => {}
        }
        self.fragments[place] = format!(" fragment {name} on {of} {selection}");
        format!("...{name} {}", self.directives())
    }

    fn directives(&mut self) -> String {
        if !self.choices.once_in(40) {
            return String::new();
        }
        let condition = match self.choices.below(16) {
            0..=6 => "true".to_owned(),
            7..=9 => "false".to_owned(),
            10 => "1".to_owned(),
            _ => self.variable("Boolean!", Value::Boolean(true)),
        };
        match self.choices.below(24) {
            0..=11 => format!("@include(if: {condition}) "),
            12..=19 => format!("@skip(if: {condition}) "),
            20..=22 => format!("@include(if: {condition}) @skip(if: {condition}) "),
            _ => "@unknown ".to_owned(),
        }
    }

    /// `place` is what they belong to.
    fn arguments(&mut self, arguments: &[Positioned<InputValueDefinition>], place: &str) -> String {
        let mut given = Vec::new();
        for argument in arguments {
            let argument = &argument.node;
            let needed = !argument.ty.node.nullable && argument.default_value.is_none();
            let name = argument.name.node.as_str();
            // A page from the start or from the end.
            let odds = if matches!(name, "last" | "before") { 12 } else { 3 };
            if !(needed && !self.choices.once_in(60) || self.choices.below(odds) == 1) {
                continue;
            }
            let value = self.value(&argument.ty.node, &format!("{place} {name}"), 0);
            let value = match self.choices.once_in(4) {
                true => self.variable(&argument.ty.node.to_string(), value),
                false => value.to_string(),
            };
            given.push(format!("{name}: {value}"));
        }
        if self.choices.once_in(120) {
            given.push("unknown: 1".to_owned());
        }
        if given.is_empty() {
            String::new()
        } else {
            format!("({})", given.join(", "))
        }
    }

    /// Declares a variable for this value.
    fn variable(&mut self, of: &str, value: Value) -> String {
        let name = format!("v{}", self.declared.len());
        let of = match self.choices.below(40) {
            37 => of.trim_end_matches('!'),
            38 => "[String!]!",
            39 => self.choices.of(&["Int", "Nothing", "Patient", "Boolean!"]),
            _ => of,
        };
        let default = match self.choices.below(40) {
            38 => format!(" = {value}"),
            39 => " = null".to_owned(),
            _ => String::new(),
        };
        self.declared.push(format!("${name}: {of}{default}"));
        if !self.choices.once_in(60) {
            let value = match self.choices.once_in(40) {
                true => odd_json(self.choices),
                false => value.into_json().unwrap(),
            };
            self.variables.insert(name.clone(), value);
        }
        format!("${name}")
    }

    fn value(&mut self, of: &Type, place: &str, depth: usize) -> Value {
        if self.choices.once_in(250) {
            return odd_value(self.choices);
        }
        if of.nullable && self.choices.once_in(12) {
            return Value::Null;
        }
        let of = match &of.base {
            BaseType::Named(of) => of.as_str(),
            BaseType::List(of) => {
                let items = match self.choices.below(60) {
                    57 => 0,
                    // Not within one another: a few of them would take all memory.
                    58 if depth < 2 => 101,
                    59 if depth < 2 => 1_001,
                    few => 1 + few % 3,
                };
                let own = items.min(4);
                let mut list: Vec<_> = (0..own).map(|_| self.value(of, place, depth + 1)).collect();
                if let Some(last) = list.last().cloned() {
                    list.resize(items, last);
                }
                return Value::List(list);
            }
        };
        match self.grammar.types.get(of) {
            Some(TypeKind::Enum(values)) => {
                let values: Vec<_> = values
                    .values
                    .iter()
                    .map(|value| value.node.value.node.as_str())
                    .collect();
                Value::Enum(Name::new(self.choices.of(&values)))
            }
            Some(TypeKind::InputObject(input)) if depth < 8 => {
                let mut object = IndexMap::new();
                for field in &input.fields {
                    let field = &field.node;
                    let needed = !field.ty.node.nullable && field.default_value.is_none();
                    if needed && !self.choices.once_in(80) || self.choices.below(3) == 1 {
                        let name = field.name.node.as_str();
                        object.insert(
                            Name::new(name),
                            self.value(&field.ty.node, &format!("{place} {of} {name}"), depth + 1),
                        );
                    }
                }
                if self.choices.once_in(100) {
                    object.insert(Name::new("unknown"), Value::Null);
                }
                Value::Object(object)
            }
            _ => self.scalar(of, place),
        }
    }

    fn scalar(&mut self, of: &str, place: &str) -> Value {
        let name = place.rsplit(' ').next().unwrap_or_default();
        match (of, name) {
            ("ID", _) => self.pool.id(place, self.choices).into(),
            ("Int", _) if self.choices.below(4) == 3 => raw(self.choices.of(&INTS)),
            ("Int", "version") => self.choices.of(&[1, 1, 1, 2]).into(),
            ("Int", _) => self.choices.of(&[1, 1, 2, 5, 20, 90]).into(),
            ("Boolean", _) => Value::Boolean(self.choices.below(2) == 1),
            ("Date", _) => text(self.choices.of(&DATES)),
            ("DateTime", _) => text(self.choices.of(&INSTANTS)),
            ("String", "after" | "before") => self.pool.cursor(self.choices).into(),
            _ if self.choices.once_in(8) => odd_text(self.choices).into(),
            ("String", "search") => text(self.choices.of(&SEARCHES)),
            // A name that does not exist yet.
            ("String", "name" | "chartNo" | "visitNo" | "idempotencyKey") => {
                Value::String(format!("N{}", self.choices.below(1_000_000)))
            }
            ("String", "phone") => text(self.choices.of(&PHONES)),
            _ => text(self.choices.of(&TEXTS)),
        }
    }
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

/// Literally, whatever it is.
fn raw(text: &str) -> Value {
    serde_json::from_str(text).map_or_else(|_| Value::Enum(Name::new(text)), Value::Number)
}

const INTS: [&str; 16] = [
    "100",
    "0",
    "-1",
    "101",
    "1990",
    "36500",
    "36501",
    "2147483647",
    "-2147483648",
    "2147483648",
    "9007199254740993",
    "9223372036854775808",
    "18446744073709551616",
    "1.5",
    "1e400",
    "-0",
];
const DATES: [&str; 20] = [
    "2025-05-01",
    "2025-06-30",
    "2025-05-31",
    "2025-08-31",
    "2025-05-20",
    "1980-02-29",
    "2026-11-21",
    "2030-12-31",
    "1900-01-01",
    "2200-12-31",
    "1899-12-31",
    "2201-01-01",
    "2025-02-30",
    "0000-00-00",
    "9999-12-31",
    "10000-01-01",
    "-2025-05-01",
    "2025-5-1",
    "２０２５-05-01",
    "2025-05-01T00:00:00Z",
];
const INSTANTS: [&str; 12] = [
    "2025-05-20T09:30:00+09:00",
    "2026-11-23T01:30:00Z",
    "2025-06-30T23:59:60Z",
    "2025-05-20T24:00:00Z",
    "2025-05-20T09:30:00",
    "2025-05-20T09:30:00+14:00",
    "2025-05-20T09:30:00-23:59",
    "1899-12-31T23:59:59Z",
    "2200-12-31T23:59:59.999999999Z",
    "9999-12-31T23:59:59-12:00",
    "+262143-01-01T00:00:00Z",
    "2025-05-20 09:30:00Z",
];
const SEARCHES: [&str; 8] = ["A", "Quok", "영", "010-1111-0001", "+82 10 1111 0002", "0", "%", "_\\"];
const PHONES: [&str; 5] = [
    "010-2345-6789",
    "+82 10-9999-8888",
    "+1 212 555 0100",
    "0",
    "+999999999999999999999",
];
const TEXTS: [&str; 8] = [
    "H1",
    "Eyes",
    "desk",
    "correct horse",
    "7f3c",
    "G 1",
    "Entered for the wrong patient",
    "가나다",
];

/// Texts that some parser may interpret.
pub fn odd_text(choices: &mut Choices<'_>) -> String {
    match choices.below(26) {
        0 => String::new(),
        1 => " ".to_owned(),
        2 => "\0".to_owned(),
        3 => "a\0b".to_owned(),
        4 => "x".repeat(255),
        5 => "x".repeat(256),
        6 => "가".repeat(2_001),
        7 => "x".repeat(70_000),
        8 => "\u{202e}txt.exe\u{202c}".to_owned(),
        9 => "\u{200b}\u{feff}".to_owned(),
        10 => "'; DROP TABLE visit; --".to_owned(),
        11 => "' OR '1'='1".to_owned(),
        12 => "\\' OR 1=1 #".to_owned(),
        13 => "%_%".to_owned(),
        14 => "\u{10ffff}\u{1f468}\u{200d}\u{1f469}".to_owned(),
        15 => "a\u{301}\u{301}\u{301}".repeat(80),
        16 => "\r\n\t".to_owned(),
        17 => "${jndi:ldap://127.0.0.1/a}".to_owned(),
        18 => "../../../../etc/passwd".to_owned(),
        19 => "<script>alert(1)</script>".to_owned(),
        20 => "\u{7f}\u{80}\u{9f}\u{ad}".to_owned(),
        21 => "ﷺ".repeat(100),
        22 => "null".to_owned(),
        23 => "=cmd|' /C calc'!A0".to_owned(),
        24 => "\u{d7ff}\u{e000}\u{fffe}\u{ffff}".to_owned(),
        _ => "{\"$ne\": null}".to_owned(),
    }
}

fn odd_value(choices: &mut Choices<'_>) -> Value {
    match choices.below(14) {
        0 => Value::Null,
        1 => Value::Boolean(true),
        2 => raw(choices.of(&INTS)),
        3 => odd_text(choices).into(),
        4 => Value::List(Vec::new()),
        5 => Value::Object(IndexMap::new()),
        6 => raw("SOMETHING"),
        7 => raw(r#""\ud800""#),
        8 => raw(r#""\udc00\ud800""#),
        9 => raw(r#""\u{110000}""#),
        10 => raw("\"\"\"block \\\"\"\" of\n text\"\"\""),
        11 => raw("\"not ended"),
        12 => raw("$undeclared"),
        _ => raw(&format!("{}1{}", "[".repeat(30), "]".repeat(30))),
    }
}

fn odd_json(choices: &mut Choices<'_>) -> serde_json::Value {
    match choices.below(9) {
        0 => json!(null),
        1 => json!(true),
        2 => json!(0),
        3 => json!(i64::MIN),
        4 => json!(1.5),
        5 => json!(odd_text(choices)),
        6 => json!([]),
        7 => json!({}),
        _ => (0..60).fold(json!(1), |inner, _| json!([inner])),
    }
}

fn odd_name(choices: &mut Choices<'_>) -> &'static str {
    choices.of(&[
        "unknown", "__schema", "id id", "_", "on", "null", "...", "a: a: id", "é", "id(a:)", "}", "{",
    ])
}
