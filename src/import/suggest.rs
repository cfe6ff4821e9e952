//! Suggests a mapping for a file: what its header row and the words in its columns say.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use chrono::NaiveDate;
use tabular::{Cells, Delimiter, Encoding, Options, Reading, Table};

use super::FileKind;
use super::mapping::{DateFormat, folded_word, our_word};
use crate::error::{Error, Result};
use crate::records::{Sex, rules};
use crate::statistics::{VisitChannel, VisitStatus};
use crate::text;

/// Rows among which the header row is looked for.
const HEADER_ROWS: usize = 30;

/// Rows whose values are looked at.
const SAMPLED_ROWS: usize = 10_000;

/// The most words of a column that are listed: one with more has other values.
const MAX_WORDS: usize = 20;

/// Names that columns have in files, by ours; compared without case, blanks and punctuation.
const NAMES: &[(&str, &[&str])] = &[
    (
        "visit_no",
        &[
            "visit no",
            "visit number",
            "visit id",
            "appointment id",
            "appointment no",
            "encounter id",
            "접수번호",
            "예약번호",
            "내원번호",
            "受付番号",
            "予約番号",
        ],
    ),
    (
        "chart_no",
        &[
            "chart no",
            "chart number",
            "chart",
            "mrn",
            "patient id",
            "patient no",
            "patient number",
            "차트번호",
            "환자번호",
            "등록번호",
            "カルテ番号",
            "患者番号",
            "patientennummer",
        ],
    ),
    (
        "name",
        &[
            "name",
            "patient name",
            "full name",
            "이름",
            "성명",
            "환자명",
            "氏名",
            "患者名",
        ],
    ),
    (
        "last",
        &["last", "last name", "surname", "family name", "성", "姓", "nachname"],
    ),
    ("first", &["first", "first name", "given name", "名", "vorname"]),
    (
        "phone",
        &[
            "phone",
            "phone number",
            "telephone",
            "tel",
            "mobile",
            "mobile phone",
            "cell",
            "cell phone",
            "전화",
            "전화번호",
            "휴대폰",
            "휴대전화",
            "연락처",
            "電話",
            "電話番号",
            "telefon",
        ],
    ),
    (
        "birth_date",
        &[
            "birth date",
            "birthdate",
            "date of birth",
            "dob",
            "birthday",
            "born",
            "생년월일",
            "生年月日",
            "geburtsdatum",
        ],
    ),
    ("birth_year", &["birth year", "year of birth", "출생연도", "生年"]),
    ("sex", &["sex", "gender", "성별", "性別", "geschlecht"]),
    (
        "registered_on",
        &[
            "registered on",
            "registered",
            "registration date",
            "등록일",
            "최초등록일",
            "登録日",
        ],
    ),
    (
        "date",
        &[
            "date",
            "visit date",
            "appointment date",
            "appointment day",
            "진료일",
            "진료일자",
            "내원일",
            "방문일",
            "예약일",
            "来院日",
            "診療日",
            "datum",
        ],
    ),
    (
        "scheduled_at",
        &[
            "scheduled at",
            "scheduled",
            "appointment time",
            "start",
            "starts at",
            "예약시간",
            "예약일시",
            "予約日時",
        ],
    ),
    (
        "status",
        &["status", "state", "no show", "상태", "예약상태", "진료상태", "状態"],
    ),
    (
        "department",
        &[
            "department",
            "dept",
            "clinic",
            "specialty",
            "speciality",
            "진료과",
            "부서",
            "診療科",
            "abteilung",
        ],
    ),
    (
        "doctor",
        &[
            "doctor",
            "physician",
            "provider",
            "practitioner",
            "의사",
            "담당의",
            "진료의",
            "주치의",
            "医師",
            "担当医",
            "arzt",
        ],
    ),
    (
        "channel",
        &[
            "channel",
            "booking channel",
            "booked by",
            "경로",
            "예약경로",
            "접수경로",
            "経路",
        ],
    ),
    ("age", &["age", "나이", "연령", "年齢", "alter"]),
];

/// Words for statuses, channels and sexes that are unmistakable.
const STATUSES: &[(&str, VisitStatus)] = &[
    ("attended", VisitStatus::Completed),
    ("arrived", VisitStatus::CheckedIn),
    ("done", VisitStatus::Completed),
    ("fulfilled", VisitStatus::Completed),
    ("cancelled", VisitStatus::Canceled),
    ("scheduled", VisitStatus::Booked),
    ("confirmed", VisitStatus::Booked),
    ("did not attend", VisitStatus::NoShow),
    ("dna", VisitStatus::NoShow),
    ("예약", VisitStatus::Booked),
    ("완료", VisitStatus::Completed),
    ("진료완료", VisitStatus::Completed),
    ("취소", VisitStatus::Canceled),
    ("예약취소", VisitStatus::Canceled),
    ("노쇼", VisitStatus::NoShow),
    ("부도", VisitStatus::NoShow),
    ("접수", VisitStatus::CheckedIn),
    ("진료중", VisitStatus::InProgress),
];
const CHANNELS: &[(&str, VisitChannel)] = &[
    ("walkin", VisitChannel::WalkIn),
    ("telephone", VisitChannel::Phone),
    ("online", VisitChannel::Web),
    ("internet", VisitChannel::Web),
    ("mobile app", VisitChannel::App),
    ("전화", VisitChannel::Phone),
    ("방문", VisitChannel::WalkIn),
    ("현장", VisitChannel::WalkIn),
    ("앱", VisitChannel::App),
    ("홈페이지", VisitChannel::Web),
];
const SEXES: &[(&str, Sex)] = &[
    ("f", Sex::Female),
    ("m", Sex::Male),
    ("woman", Sex::Female),
    ("man", Sex::Male),
    ("여", Sex::Female),
    ("여자", Sex::Female),
    ("여성", Sex::Female),
    ("남", Sex::Male),
    ("남자", Sex::Male),
    ("남성", Sex::Male),
    ("女", Sex::Female),
    ("男", Sex::Male),
];

/// Forms of dates that are tried.
const DATE_FORMS: &[&str] = &[
    "DD/MM/YYYY",
    "MM/DD/YYYY",
    "YYYY/MM/DD",
    "DD.MM.YYYY",
    "YYYY.MM.DD",
    "YYYY. MM. DD",
    "DD-MM-YYYY",
    "MM-DD-YYYY",
    "YYYY년 MM월 DD일",
    "YYYY年MM月DD日",
];

/// A mapping to begin with, in TOML. Where more than one would do, it says so in comments.
///
/// # Errors
/// Where the file cannot be read, or no column of it is known.
pub fn suggest(path: &Path, kind: Option<FileKind>, sheet: Option<&str>) -> Result<String> {
    let found = Found::new(path, sheet)?;
    let has = |name: &str| found.columns.contains_key(name);
    let kind = kind.unwrap_or(
        if has("visit_no") || (has("status") && (has("date") || has("scheduled_at"))) {
            FileKind::Visits
        } else {
            FileKind::Patients
        },
    );
    let mut table = found.open()?;
    let mut samples: Vec<Cells> = Vec::new();
    for row in table.by_ref().take(SAMPLED_ROWS) {
        samples.push(row.map_err(|error| unreadable(path, &error))?.cells);
    }
    Ok(found.text(kind, &samples))
}

fn unreadable(path: &Path, error: &tabular::Error) -> Error {
    Error::input("file", format!("{}: {error}", path.display()))
}

/// A name of a column without case, blanks and punctuation.
fn folded_name(name: &str) -> String {
    let folded = text::folded(name);
    folded.chars().filter(|c| c.is_alphanumeric()).collect()
}

/// Our column that a column of a file is by its name.
fn known_column(header: &str) -> Option<&'static str> {
    let header = folded_name(header);
    let is_named = |names: &[&str]| names.iter().any(|name| folded_name(name) == header);
    let found = NAMES
        .iter()
        .find(|(ours, names)| folded_name(ours) == header || is_named(names));
    found.map(|(ours, _)| *ours)
}

/// A file in the reading in which most of its columns are known.
struct Found<'a> {
    path: &'a Path,
    options: Options,
    reading: Reading,
    /// Whether the encoding and the delimiter have to be said.
    is_ambiguous: bool,
    headers: Vec<String>,
    /// Places of columns by our names.
    columns: BTreeMap<&'static str, usize>,
}

impl<'a> Found<'a> {
    fn new(path: &'a Path, sheet: Option<&str>) -> Result<Self> {
        let mut best: Option<Self> = None;
        let mut failed = None;
        let mut readings = 0;
        let encodings = std::iter::once(None).chain(Encoding::ALL.iter().copied().map(Some));
        for encoding in encodings {
            for delimiter in Delimiter::ALL {
                let options = Options {
                    sheet: sheet.map(str::to_owned),
                    encoding,
                    delimiter: Some(*delimiter),
                    ..Options::default()
                };
                match Self::of(path, options) {
                    Ok(Some(found)) => {
                        readings += 1;
                        let known = |found: &Self| found.columns.len();
                        if best.as_ref().is_none_or(|best| known(&found) > known(best)) {
                            best = Some(found);
                        }
                    }
                    Ok(None) => {}
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
            // An encoding was found without being given.
            if best.is_some() && encoding.is_none() {
                break;
            }
        }
        match (best, failed) {
            (Some(found), _) => Ok(Self {
                is_ambiguous: readings > 1,
                ..found
            }),
            (None, Some(error)) => Err(unreadable(path, &error)),
            (None, None) => Err(Error::input(
                "file",
                format!(
                    "{}: no row has columns of names that are known; write a mapping by hand",
                    path.display()
                ),
            )),
        }
    }

    /// The file as the options say; none where no column is known.
    fn of(path: &'a Path, options: Options) -> tabular::Result<Option<Self>> {
        let mut table = tabular::open(path, &options)?;
        let reading = table.reading().clone();
        let mut rows = vec![(reading.header_row, reading.headers.clone())];
        for row in table.by_ref().take(HEADER_ROWS) {
            let row = row?;
            rows.push((row.line, row.cells.iter().map(|cell| cell.trim().to_owned()).collect()));
        }
        let mut best: Option<(u64, Vec<String>, BTreeMap<&'static str, usize>)> = None;
        for (line, headers) in rows {
            let mut columns = BTreeMap::new();
            for (place, header) in headers.iter().enumerate() {
                if let Some(ours) = known_column(header) {
                    columns.entry(ours).or_insert(place);
                }
            }
            let is_better = best.as_ref().is_none_or(|(.., known)| columns.len() > known.len());
            if is_better && !columns.is_empty() {
                best = Some((line, headers, columns));
            }
        }
        Ok(best.map(|(line, headers, columns)| Self {
            path,
            options: Options {
                header_row: Some(line),
                ..options
            },
            reading,
            is_ambiguous: false,
            headers,
            columns,
        }))
    }

    fn open(&self) -> Result<Table> {
        tabular::open(self.path, &self.options).map_err(|error| unreadable(self.path, &error))
    }

    fn text(&self, kind: FileKind, samples: &[Cells]) -> String {
        let mut text = String::new();
        let mut line = |new: String| {
            text.push_str(&new);
            text.push('\n');
        };
        line(format!(
            "# A suggestion for a file of {}: check it by a dry run.",
            kind.as_str()
        ));
        if let Some(sheet) = &self.reading.sheet {
            line(format!("sheet = {sheet:?}"));
        }
        if self.is_ambiguous {
            if let Some(encoding) = self.reading.encoding {
                line(format!("encoding = {:?}", encoding.as_str()));
            }
            if let Some(delimiter) = self.reading.delimiter {
                line(format!("delimiter = {:?}", delimiter.as_str()));
            }
        }
        if let Some(header_row) = self.options.header_row.filter(|row| *row != self.reading.header_row) {
            line(format!("header_row = {header_row}"));
        }
        let patient = [
            "name",
            "last",
            "first",
            "phone",
            "birth_date",
            "birth_year",
            "sex",
            "age",
        ];
        let of_patient = |name: &str| patient.contains(&name);
        if kind == FileKind::Visits && self.columns.keys().any(|name| of_patient(name)) {
            line("# The file has columns of patients, too: those who are not known are inserted.".to_owned());
            line("brings_patients = true".to_owned());
        }
        for new in self.dates(kind, samples) {
            line(new);
        }
        line(String::new());
        line("[columns]".to_owned());
        let header = |name: &str| self.columns.get(name).and_then(|place| self.headers.get(*place));
        for (ours, _) in NAMES {
            let of_visits = [
                "age",
                "visit_no",
                "date",
                "scheduled_at",
                "status",
                "department",
                "doctor",
                "channel",
            ];
            let is_read = match kind {
                _ if matches!(*ours, "last" | "first") => false,
                FileKind::Patients => !of_visits.contains(ours),
                FileKind::Visits => *ours != "registered_on",
            };
            match (header(ours), *ours) {
                (Some(header), _) if is_read => line(format!("{ours} = {header:?}")),
                (None, "name") => {
                    if let (Some(last), Some(first)) = (header("last"), header("first")) {
                        line(format!("name = [{last:?}, {first:?}]"));
                    }
                }
                (None, "visit_no" | "status") if kind == FileKind::Visits => {
                    line(format!("# {ours} = \"\"  # is required: which column is it?"));
                }
                (None, "chart_no") => line("# chart_no = \"\"  # is required: which column is it?".to_owned()),
                _ => {}
            }
        }
        let mapped = |place: &usize| self.columns.values().any(|column| column == place);
        let ignored = self
            .headers
            .iter()
            .enumerate()
            .filter(|(place, header)| !mapped(place) && !header.is_empty());
        let ignored: Vec<String> = ignored.map(|(_, header)| format!("{header:?}")).collect();
        if !ignored.is_empty() {
            line(format!("# Not read: {}", ignored.join(", ")));
        }
        if kind == FileKind::Visits {
            text += &self.words(
                "status",
                "statuses",
                samples,
                (VisitStatus::ALL, VisitStatus::as_str),
                STATUSES,
            );
            text += &self.words(
                "channel",
                "channels",
                samples,
                (VisitChannel::ALL, VisitChannel::as_str),
                CHANNELS,
            );
        }
        text += &self.words("sex", "sexes", samples, (Sex::ALL, Sex::as_str), SEXES);
        text
    }

    fn values<'b>(&self, name: &str, samples: &'b [Cells]) -> Vec<&'b str> {
        let Some(place) = self.columns.get(name) else {
            return Vec::new();
        };
        let values = samples.iter().filter_map(|row| row.get(*place)).map(str::trim);
        values.filter(|value| !value.is_empty()).collect()
    }

    /// Lines about how dates are written.
    fn dates(&self, kind: FileKind, samples: &[Cells]) -> Vec<String> {
        let names: &[&str] = match kind {
            FileKind::Patients => &["birth_date", "registered_on"],
            FileKind::Visits => &["date", "birth_date"],
        };
        let values: Vec<&str> = names.iter().flat_map(|name| self.values(name, samples)).collect();
        let mut lines = Vec::new();
        let day = self.values("date", samples);
        if kind == FileKind::Visits && !day.is_empty() && day.iter().all(|value| value.get(10..11) == Some("T")) {
            lines.push("# Time stamps: \"calendar-day\" takes their day as it is written, \"instant\" that of the hospital's time zone.".to_owned());
            lines.push("date = \"calendar-day\"".to_owned());
            return lines;
        }
        if values.is_empty() || values.iter().all(|value| rules::parse_date(value).is_ok()) {
            return lines;
        }
        let fits = |form: &&&str| {
            DateFormat::parse(form).is_some_and(|format| {
                let parse = |value: &&str| format.parse_start(value).map(|(date, _)| date);
                let count = values
                    .iter()
                    .filter_map(parse)
                    .filter(|date: &NaiveDate| rules::date(*date).is_ok())
                    .count();
                // A few values may be misspelled.
                count * 100 >= values.len() * 95
            })
        };
        let mut forms: Vec<&str> = DATE_FORMS.iter().filter(fits).copied().collect();
        // Blanks make no difference.
        forms.dedup_by_key(|form| form.replace(' ', ""));
        match forms[..] {
            [form] => lines.push(format!("date_format = {form:?}")),
            [] => lines.push("# date_format = \"\"  # how are dates written? Such as DD/MM/YYYY".to_owned()),
            _ => lines.push(format!(
                "# date_format = \"\"  # one of these fits: {}",
                forms.join(", ")
            )),
        }
        lines
    }

    /// The table of the words of a column, with those that have to be told.
    fn words<T: Copy + PartialEq>(
        &self,
        column: &str,
        key: &str,
        samples: &[Cells],
        (all, as_str): (&[T], fn(T) -> &'static str),
        known: &[(&str, T)],
    ) -> String {
        let mut words: BTreeMap<&str, usize> = BTreeMap::new();
        for value in self.values(column, samples) {
            if our_word(value, all, as_str).is_none() {
                *words.entry(value).or_default() += 1;
            }
        }
        if words.is_empty() {
            return String::new();
        }
        let mut table = format!("\n[{key}]\n");
        if words.len() > MAX_WORDS {
            table.push_str("# The column has more than 20 words: is it the right one?\n");
            return table;
        }
        for (word, rows) in words {
            let found = known.iter().find(|(name, _)| folded_word(name) == folded_word(word));
            // Writing to a text does not fail.
            let _ = match found {
                Some((_, ours)) => writeln!(table, "{word:?} = {:?}", as_str(*ours)),
                None => {
                    let ours: Vec<&str> = all.iter().map(|value| as_str(*value)).collect();
                    writeln!(
                        table,
                        "# {word:?} = \"\"  # in {rows} rows; one of: {}",
                        ours.join(", ")
                    )
                }
            };
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::Mapping;

    fn suggested(content: &str, kind: Option<FileKind>) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.csv");
        std::fs::write(&path, content).unwrap();
        let text = suggest(&path, kind, None).unwrap();
        Mapping::parse(&text).unwrap();
        text
    }

    #[test]
    fn a_file_of_patients_gets_a_mapping() {
        let file = "Clinic One;;;;;\n;;;;;\nMRN;LAST;FIRST;D.O.B.;Gender;Ward\n1;Kim;Min;31/12/1980;F;3\n2;Lee;Su;01/02/1990;X;4\n";
        let expected = "# A suggestion for a file of patients: check it by a dry run.\nheader_row = 3\n\
            date_format = \"DD/MM/YYYY\"\n\n[columns]\nchart_no = \"MRN\"\nname = [\"LAST\", \"FIRST\"]\nbirth_date = \"D.O.B.\"\nsex = \"Gender\"\n\
            # Not read: \"Ward\"\n\n[sexes]\n\"F\" = \"FEMALE\"\n# \"X\" = \"\"  # in 1 rows; one of: FEMALE, MALE, OTHER, UNKNOWN\n";
        assert_eq!(suggested(file, None), expected);
    }

    #[test]
    fn a_file_of_both_gets_a_mapping() {
        let file = "예약번호,환자번호,이름,진료일,상태,예약경로\n1,7,김민수,2025.01.02,완료,전화\n2,7,김민수,2025.01.03,모름,PHONE\n";
        let expected = "# A suggestion for a file of visits: check it by a dry run.\n\
            # The file has columns of patients, too: those who are not known are inserted.\nbrings_patients = true\ndate_format = \"YYYY.MM.DD\"\n\n\
            [columns]\nvisit_no = \"예약번호\"\nchart_no = \"환자번호\"\nname = \"이름\"\ndate = \"진료일\"\nstatus = \"상태\"\nchannel = \"예약경로\"\n\n\
            [statuses]\n# \"모름\" = \"\"  # in 1 rows; one of: TENTATIVE, BOOKED, CHECKED_IN, IN_PROGRESS, COMPLETED, ENDED, CANCELED, NO_SHOW\n\
            \"완료\" = \"COMPLETED\"\n\n[channels]\n\"전화\" = \"PHONE\"\n";
        assert_eq!(suggested(file, None), expected);
    }

    #[test]
    fn dates_that_fit_in_two_ways_are_asked_for() {
        let text = suggested("chart_no,dob\n1,01/02/1990\n2,03/04/1991\n", None);
        assert!(
            text.contains("# date_format = \"\"  # one of these fits: DD/MM/YYYY, MM/DD/YYYY"),
            "{text}"
        );
        let text = suggested("chart_no,name\n1,x\n", Some(FileKind::Visits));
        assert!(text.contains("# visit_no = \"\"  # is required"), "{text}");
    }

    #[test]
    fn a_file_without_known_columns_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.csv");
        std::fs::write(&path, "a,b\n1,2\n").unwrap();
        let error = suggest(&path, None, None).unwrap_err().for_operator();
        assert!(error.contains("no row has columns of names that are known"), "{error}");
    }

    #[test]
    fn the_mappings_of_the_project_are_mappings() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("mappings");
        let mut read = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            Mapping::read(&entry.unwrap().path()).unwrap();
            read += 1;
        }
        assert!(read >= 3);
    }
}
