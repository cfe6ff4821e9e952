//! What the header row of a file and the words in its columns say: a mapping to begin with, and the mapping of a file without one whose
//! header row is unmistakable.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use chrono::NaiveDate;
use string_enum::StringEnum;
use tabular::{Cells, Delimiter, Encoding, Format, Options, Reading};

use super::FileKind;
use super::mapping::{DateFormat, FileColumns, Mapping, Words};
use super::rows;
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
    let samples = found.samples().map_err(|error| unreadable(path, &error))?;
    Ok(found.text(kind, &samples))
}

/// The mapping of a file that has all columns of its kind under names that are known, and each once, its dates in one form, and one reading
/// in which that is so. None for any other file.
pub(super) fn unmistakable(path: &Path, kind: FileKind) -> Option<Mapping> {
    let found = Found::new(path, None).ok().filter(|found| !found.is_ambiguous)?;
    let samples = found.samples().ok()?;
    let columns = found.mapped(kind);
    let has = |name: &str| columns.iter().any(|(ours, _)| *ours == name);
    let has_day = kind == FileKind::Patients || has("date") || has("scheduled_at");
    let is_complete = has_day && rows::required(kind).iter().all(|name| has(name));
    let are_single = found.columns.values().all(|places| places.len() == 1);
    if !is_complete || !are_single {
        return None;
    }
    let date_format = match found.dates(kind, &samples) {
        Dates::Ours => None,
        Dates::Form(form) => DateFormat::parse(form),
        Dates::TimeStamps | Dates::Open(_) => return None,
    };
    let columns = columns.into_iter().map(|(ours, in_file)| (ours.to_owned(), in_file));
    Some(Mapping {
        sheet: found.reading.sheet.clone(),
        delimiter: found.reading.delimiter,
        header_row: found.options.header_row,
        columns: columns.collect(),
        statuses: found.known_words("status", &samples, STATUSES),
        channels: found.known_words("channel", &samples, CHANNELS),
        sexes: found.known_words("sex", &samples, SEXES),
        date_format,
        brings_patients: found.brings_patients(kind),
        ..Mapping::default()
    })
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
    /// Places of columns by our names; several where the header row has several names for ours.
    columns: Columns,
}

type Columns = BTreeMap<&'static str, Vec<usize>>;

/// How the dates of a file are written.
enum Dates {
    /// YYYY-MM-DD, or there are none.
    Ours,
    TimeStamps,
    Form(&'static str),
    /// In none of the forms that are tried, or in several.
    Open(Vec<&'static str>),
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
                    // It has neither encodings nor delimiters.
                    Ok(Some(found)) if found.reading.format == Format::Xlsx => return Ok(found),
                    Err(tabular::Error::SeveralSheets(sheets)) => return Self::of_sheets(path, sheets),
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

    /// An XLSX file, by the only sheet in which columns are known.
    fn of_sheets(path: &'a Path, sheets: Vec<String>) -> Result<Self> {
        let mut known: Vec<Self> = Vec::new();
        for sheet in &sheets {
            let options = Options {
                sheet: Some(sheet.clone()),
                ..Options::default()
            };
            known.extend(Self::of(path, options).map_err(|error| unreadable(path, &error))?);
        }
        match (known.pop(), known.is_empty()) {
            (Some(found), true) => Ok(found),
            _ => Err(unreadable(path, &tabular::Error::SeveralSheets(sheets))),
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
        let mut best: Option<(u64, Vec<String>, Columns)> = None;
        for (line, headers) in rows {
            let mut columns = Columns::new();
            for (place, header) in headers.iter().enumerate() {
                if let Some(ours) = known_column(header) {
                    columns.entry(ours).or_default().push(place);
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

    /// The first rows below the header row. Those of a file that ends within a row are complete before it.
    fn samples(&self) -> tabular::Result<Vec<Cells>> {
        let table = tabular::open(self.path, &self.options)?;
        let rows = table.take(SAMPLED_ROWS).map_while(std::result::Result::ok);
        Ok(rows.map(|row| row.cells).collect())
    }

    /// The name of a column in the file, by ours.
    fn header(&self, ours: &str) -> Option<&String> {
        self.headers.get(*self.columns.get(ours)?.first()?)
    }

    /// Our columns that a file of this kind is read for, with those of the file.
    fn mapped(&self, kind: FileKind) -> Vec<(&'static str, FileColumns)> {
        let of_file = |ours: &str| match (ours, self.header(ours)) {
            ("last" | "first", _) => None,
            ("name", None) => Some(FileColumns::Several(vec![
                self.header("last")?.clone(),
                self.header("first")?.clone(),
            ])),
            (_, header) => Some(FileColumns::One(header?.clone())),
        };
        let names = NAMES.iter().map(|(ours, _)| *ours).filter(|ours| match kind {
            FileKind::Patients => rows::PATIENT_COLUMNS.contains(ours),
            FileKind::Visits => *ours != "registered_on",
        });
        names.filter_map(|ours| Some((ours, of_file(ours)?))).collect()
    }

    /// Whether a file of visits has columns of patients, too.
    fn brings_patients(&self, kind: FileKind) -> bool {
        let of_patient =
            |ours: &&str| matches!(*ours, "last" | "first") || rows::PATIENT_COLUMNS_OF_VISITS.contains(ours);
        kind == FileKind::Visits && self.columns.keys().any(of_patient)
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
        if self.brings_patients(kind) {
            line("# The file has columns of patients, too: those who are not known are inserted.".to_owned());
            line("brings_patients = true".to_owned());
        }
        match self.dates(kind, samples) {
            Dates::Ours => {}
            Dates::TimeStamps => {
                line("# Time stamps: \"calendar-day\" takes their day as it is written, \"instant\" that of the hospital's time zone.".to_owned());
                line("date = \"calendar-day\"".to_owned());
            }
            Dates::Form(form) => line(format!("date_format = {form:?}")),
            Dates::Open(forms) if forms.is_empty() => {
                line("# date_format = \"\"  # how are dates written? Such as DD/MM/YYYY".to_owned());
            }
            Dates::Open(forms) => line(format!(
                "# date_format = \"\"  # one of these fits: {}",
                forms.join(", ")
            )),
        }
        line(String::new());
        line("[columns]".to_owned());
        let columns: BTreeMap<&str, FileColumns> = self.mapped(kind).into_iter().collect();
        for (ours, _) in NAMES {
            match columns.get(ours) {
                Some(FileColumns::One(header)) => line(format!("{ours} = {header:?}")),
                Some(FileColumns::Several(headers)) => line(format!("{ours} = {headers:?}")),
                None if rows::required(kind).contains(ours) => {
                    line(format!("# {ours} = \"\"  # is required: which column is it?"));
                }
                None => {}
            }
        }
        let mapped = |place: &usize| self.columns.values().any(|places| places.first() == Some(place));
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
            text += &self.words("status", "statuses", samples, STATUSES);
            text += &self.words("channel", "channels", samples, CHANNELS);
        }
        text += &self.words("sex", "sexes", samples, SEXES);
        text
    }

    fn values<'b>(&self, name: &str, samples: &'b [Cells]) -> Vec<&'b str> {
        let Some(place) = self.columns.get(name).and_then(|places| places.first()) else {
            return Vec::new();
        };
        let values = samples.iter().filter_map(|row| row.get(*place)).map(str::trim);
        values.filter(|value| !value.is_empty()).collect()
    }

    fn dates(&self, kind: FileKind, samples: &[Cells]) -> Dates {
        let names: &[&str] = match kind {
            FileKind::Patients => &["birth_date", "registered_on"],
            FileKind::Visits => &["date", "birth_date"],
        };
        let values: Vec<&str> = names.iter().flat_map(|name| self.values(name, samples)).collect();
        let day = self.values("date", samples);
        if kind == FileKind::Visits && !day.is_empty() && day.iter().all(|value| value.get(10..11) == Some("T")) {
            return Dates::TimeStamps;
        }
        if values.iter().all(|value| rules::parse_date(value).is_ok()) {
            return Dates::Ours;
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
            [form] => Dates::Form(form),
            _ => Dates::Open(forms),
        }
    }

    /// The words of a column that are not ours, each with the number of its rows and what it is known to stand for.
    fn other_words<'b, T: StringEnum>(
        &self,
        column: &str,
        samples: &'b [Cells],
        known: &[(&str, T)],
    ) -> BTreeMap<&'b str, (usize, Option<T>)> {
        let (ours, mut all) = (Words::<T>::default(), Words::default());
        for (word, value) in known {
            // The words are different ones.
            let _ = all.add(word, *value);
        }
        let mut words = BTreeMap::new();
        for word in self.values(column, samples) {
            if ours.get(word).is_none() {
                words.entry(word).or_insert_with(|| (0, all.get(word))).0 += 1;
            }
        }
        words
    }

    /// The words of a column that are known.
    fn known_words<T: StringEnum>(&self, column: &str, samples: &[Cells], known: &[(&str, T)]) -> Words<T> {
        let mut words = Words::default();
        for (word, (_, value)) in self.other_words(column, samples, known) {
            if let Some(value) = value {
                // Of words that differ in case only, both are known as the same.
                let _ = words.add(word, value);
            }
        }
        words
    }

    /// The table of the words of a column, with those that have to be told.
    fn words<T: StringEnum>(&self, column: &str, key: &str, samples: &[Cells], known: &[(&str, T)]) -> String {
        let words = self.other_words(column, samples, known);
        if words.is_empty() {
            return String::new();
        }
        let mut table = format!("\n[{key}]\n");
        if words.len() > MAX_WORDS {
            table.push_str("# The column has more than 20 words: is it the right one?\n");
            return table;
        }
        let ours = Words::<T>::default().list();
        for (word, (rows, value)) in words {
            // Writing to a text does not fail.
            let _ = match value {
                Some(value) => writeln!(table, "{word:?} = {:?}", value.as_str()),
                None => writeln!(table, "# {word:?} = \"\"  # in {rows} rows; one of: {ours}"),
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

    /// Whether a file of visits is read without a mapping.
    fn is_unmistakable(content: &str) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.csv");
        std::fs::write(&path, content).unwrap();
        unmistakable(&path, FileKind::Visits).is_some()
    }

    #[test]
    fn what_could_be_read_otherwise_is_mistakable() {
        assert!(is_unmistakable(
            "Visit ID,MRN,Date of visit,Visit Date,State\n1,2,x,31/12/2024,done\n"
        ));
        for (reason, content) in [
            (
                "no column for visit_no",
                "Number,MRN,Visit Date,State\n1,2,2024-12-31,done\n",
            ),
            ("no day", "Visit ID,MRN,State\n1,2,done\n"),
            (
                "two columns for chart_no",
                "Visit ID,MRN,Patient ID,Visit Date,State\n1,2,3,2024-12-31,done\n",
            ),
            (
                "two forms of dates",
                "Visit ID,MRN,Visit Date,State\n1,2,01/02/2024,done\n",
            ),
            (
                "an unknown form of dates",
                "Visit ID,MRN,Visit Date,State\n1,2,Dec 31,done\n",
            ),
            (
                "time stamps",
                "Visit ID,MRN,Visit Date,State\n1,2,2024-12-31T08:00:00Z,done\n",
            ),
            (
                "two readings",
                "Visit ID;MRN;Visit Date;State,Visit ID;MRN,Visit Date,State\n",
            ),
            ("not a file of visits", "MRN,Name\n1,x\n"),
        ] {
            assert!(!is_unmistakable(content), "{reason}");
        }
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
