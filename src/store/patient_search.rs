//! Which patients to list, and how they are found. Each criterion has an index. The entries that it has there are counted first, up to
//! a bound: where they are few, their patients are read and sorted, else the patients are read in the order of the list and those
//! that do not match are left out. Either way a page reads few rows.

use chrono::NaiveDate;
use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult};

use super::keyset::{order_sql, seek_conditions_sql, seek_sql};
use super::model::Patient;
use super::patient::{KeyedPatient, PatientKey};
use super::sql::{Sql, one_count};
use super::{Keyset, Store};
use crate::error::Result;
use crate::secrets::{PHONE_ENDING_HASH, SHORTEST_PHONE_ENDING};
use crate::statistics::DayRange;
use crate::text;

/// So many times as many matches are sorted where other criteria leave some of them out: a page in the list's order may be far from
/// its start.
const SEVERAL_CRITERIA: u64 = 5;

/// The same for days of registration alone: their index also has the chart numbers.
const ALONE: u64 = 25;

/// The most zeros before what is searched as the start of a chart number.
pub const MAX_LEADING_ZEROS: usize = 20;

/// Which patients to list: the ACTIVE ones that match the text in one of the ways given, and every other criterion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PatientSearch {
    /// The start of a word of the name.
    pub name_start: Option<String>,
    /// The start of the chart number, or of that of a record merged into the patient, with or without its leading zeros.
    pub chart_start: Option<String>,
    /// A whole phone number, in E.164.
    pub phone: Option<String>,
    /// When the patient was registered.
    pub registered: Option<DayRange>,
    pub birth_date: Option<NaiveDate>,
    /// Digits, with one of which the phone number ends in E.164; all end if there are none.
    pub phone_endings: Vec<String>,
}

impl PatientSearch {
    /// Whether it searches by what identifies a person.
    #[must_use]
    pub const fn is_by_person(&self) -> bool {
        self.name_start.is_some()
            || self.chart_start.is_some()
            || self.phone.is_some()
            || self.birth_date.is_some()
            || !self.phone_endings.is_empty()
    }

    /// The ways in which the text may match; none if there is no text.
    fn texts(&self) -> Option<Vec<Criterion>> {
        if self.name_start.is_none() && self.chart_start.is_none() && self.phone.is_none() {
            return None;
        }
        let mut texts = Vec::new();
        let name = self.name_start.as_deref().map(text::name_start);
        texts.extend(name.filter(|start| !start.is_empty()).map(Criterion::Name));
        if let Some(start) = &self.chart_start {
            let prefixes = chart_prefixes(start);
            texts.push(Criterion::MergedChartNo(prefixes.clone()));
            texts.extend(prefixes.into_iter().map(Criterion::ChartNo));
        }
        texts.extend(self.phone.clone().map(Criterion::Phone));
        Some(texts)
    }

    fn filters(&self) -> Vec<Criterion> {
        let ending = (!self.phone_endings.is_empty()).then(|| Criterion::PhoneEnding(self.phone_endings.clone()));
        let birth_date = self.birth_date.map(Criterion::BirthDate);
        let registered = self.registered.map(Criterion::Registered);
        [ending, birth_date, registered].into_iter().flatten().collect()
    }
}

/// The starts of chart numbers that a text is the start of, also without leading zeros and in ordinary width.
fn chart_prefixes(start: &str) -> Vec<String> {
    let narrow = text::nfkc(start);
    let mut prefixes = vec![start.to_owned()];
    if narrow != start {
        prefixes.push(narrow.clone().into_owned());
    }
    if !narrow.starts_with('0') {
        let zeros = (1..=MAX_LEADING_ZEROS).map(|zeros| format!("{}{narrow}", "0".repeat(zeros)));
        prefixes.extend(zeros);
    }
    prefixes
}

/// A condition on patients that an index serves.
#[derive(Clone, Debug)]
enum Criterion {
    /// A suffix of the name starts with this.
    Name(String),
    /// The chart number starts with this.
    ChartNo(String),
    /// The chart number of a record merged into the patient starts with one of these.
    MergedChartNo(Vec<String>),
    Phone(String),
    PhoneEnding(Vec<String>),
    BirthDate(NaiveDate),
    Registered(DayRange),
}

impl Criterion {
    const fn is_number(&self) -> bool {
        matches!(self, Self::ChartNo(_) | Self::MergedChartNo(_))
    }
}

/// A criterion, and how many entries it has in its index, up to a bound.
#[derive(Clone, Debug)]
struct Counted {
    criterion: Criterion,
    entries: u64,
}

/// How to find the patients of a search.
#[derive(Clone, Debug)]
pub struct SearchPlan {
    /// The ways in which the text matches somebody; none if there is no text.
    texts: Option<Vec<Counted>>,
    filters: Vec<Counted>,
    /// See [`crate::config::Limits::max_sorted_patients`].
    max_sorted: u64,
}

/// Where a part of the list comes from.
enum Source<'a> {
    /// The entries of an index, sorted.
    Entries(&'a Criterion),
    /// All patients in the list's order, of whom those count that match.
    Order(Option<&'a Criterion>),
}

/// A part of a list: the list is the union of its parts.
struct Part<'a> {
    source: Source<'a>,
    /// All must hold.
    conditions: Vec<&'a Criterion>,
    /// Of these one must hold, if there are any.
    alternatives: Vec<&'a Criterion>,
}

impl Part<'_> {
    /// The start of the names, if the entries have all that the part needs of the patients.
    fn covered_name(&self, key: PatientKey) -> Option<&str> {
        match self.source {
            Source::Entries(Criterion::Name(start))
                if self.alternatives.is_empty()
                    && has_index(key)
                    && only_registered(self.conditions.iter().copied()) =>
            {
                Some(start)
            }
            _ => None,
        }
    }
}

/// Whether an index has the patients in this order, and the suffixes of names have the key.
const fn has_index(key: PatientKey) -> bool {
    matches!(key, PatientKey::ChartNo | PatientKey::Name | PatientKey::RegisteredOn)
}

fn only_registered<'a>(mut conditions: impl Iterator<Item = &'a Criterion>) -> bool {
    conditions.all(|condition| matches!(condition, Criterion::Registered(_)))
}

impl SearchPlan {
    /// Whether nobody matches.
    fn is_empty(&self) -> bool {
        self.texts.as_ref().is_some_and(Vec::is_empty) || self.filters.iter().any(|filter| filter.entries == 0)
    }

    /// The filter to begin with, if it has fewer entries than the text and than are sorted at most.
    fn narrowest_filter(&self) -> Option<&Criterion> {
        let narrowest = self.filters.iter().min_by_key(|filter| filter.entries)?;
        let of_texts = self
            .texts
            .as_ref()
            .map(|texts| texts.iter().map(|text| text.entries).sum());
        // The entries of a name have the day of registration: many are read as fast as few patients.
        let most = match &self.texts {
            Some(_) if self.name_alone().is_some() => self.max_sorted / 4,
            Some(_) => self.max_sorted * SEVERAL_CRITERIA,
            None if self.filters.len() == 1 => self.max_sorted * ALONE,
            None => self.max_sorted * SEVERAL_CRITERIA,
        };
        (narrowest.entries <= of_texts.unwrap_or(u64::MAX).min(most)).then_some(&narrowest.criterion)
    }

    /// The text as the start of a name, if it cannot match otherwise and there is no filter but the day of registration.
    fn name_alone(&self) -> Option<&Counted> {
        match self.texts.as_deref() {
            Some([name]) if matches!(name.criterion, Criterion::Name(_)) => {
                only_registered(self.filters.iter().map(|filter| &filter.criterion)).then_some(name)
            }
            _ => None,
        }
    }

    fn parts(&self, key: PatientKey) -> Vec<Part<'_>> {
        let filters = || self.filters.iter().map(|filter| &filter.criterion);
        let texts = || self.texts.iter().flatten();
        // Registered days are a range of their index, which is in the order of the list.
        let in_order = key == PatientKey::RegisteredOn && only_registered(filters());
        if let Some(narrowest) = self.narrowest_filter() {
            let of_filter = self.filters.iter().map(|filter| filter.entries).min().unwrap_or(0);
            let in_order = self.texts.is_none() && (in_order || key == PatientKey::Name && of_filter > self.max_sorted);
            return vec![Part {
                source: if in_order {
                    Source::Order(Some(narrowest))
                } else {
                    Source::Entries(narrowest)
                },
                conditions: filters().filter(|filter| !std::ptr::eq(*filter, narrowest)).collect(),
                alternatives: texts().map(|text| &text.criterion).collect(),
            }];
        }
        if self.texts.is_none() {
            return vec![Part {
                source: Source::Order(None),
                conditions: filters().collect(),
                alternatives: Vec::new(),
            }];
        }
        let several = if self.filters.is_empty() { 1 } else { SEVERAL_CRITERIA };
        let parts = texts().map(|text| {
            let sorted = match &text.criterion {
                Criterion::Name(_) if has_index(key) && only_registered(filters()) => {
                    let few = text.entries <= self.max_sorted * SEVERAL_CRITERIA;
                    // Frequent names are close to each other in the order of names, and those registered in some period may be in
                    // that of chart numbers.
                    self.max_sorted > 0 && (few || key == PatientKey::Name || !self.filters.is_empty() && !in_order)
                }
                // A range of the order itself.
                Criterion::ChartNo(_) if key == PatientKey::ChartNo => false,
                // Their index has the day of registration.
                Criterion::ChartNo(_) if !self.filters.is_empty() && only_registered(filters()) => !in_order,
                _ => text.entries <= self.max_sorted * several,
            };
            Part {
                source: if sorted {
                    Source::Entries(&text.criterion)
                } else {
                    Source::Order(Some(&text.criterion))
                },
                conditions: filters().collect(),
                alternatives: Vec::new(),
            }
        });
        parts.collect()
    }

    /// The number of patients, if the counted entries are all.
    fn total(&self) -> Option<u64> {
        let counted = match (self.texts.as_deref(), self.filters.as_slice()) {
            (None, [filter]) => std::slice::from_ref(filter),
            (Some(texts), [])
                if texts.len() == 1 || texts.iter().all(|text| matches!(text.criterion, Criterion::ChartNo(_))) =>
            {
                texts
            }
            _ => return None,
        };
        let alone = counted.len() == 1;
        let exact = |counted: &Counted| {
            counted.entries < bound(self.max_sorted, &counted.criterion, alone)
                && !matches!(counted.criterion, Criterion::MergedChartNo(_))
        };
        counted
            .iter()
            .all(exact)
            .then(|| counted.iter().map(|counted| counted.entries).sum())
    }
}

/// Up to how many entries are counted.
const fn bound(max_sorted: u64, criterion: &Criterion, alone: bool) -> u64 {
    let times = match criterion {
        Criterion::Registered(_) if alone => ALONE,
        _ => SEVERAL_CRITERIA,
    };
    max_sorted * times + 1
}

impl Store {
    /// Counts the entries of the search's criteria. Indexes names first that SQL has changed.
    ///
    /// # Errors
    /// Where the database fails. BUSY where names changed by SQL cannot be indexed in time.
    pub async fn plan_search(&self, hospital: i64, search: &PatientSearch) -> Result<SearchPlan> {
        let (texts, filters) = (search.texts(), search.filters());
        let criteria: Vec<&Criterion> = texts.iter().flatten().chain(&filters).collect();
        let mut counts = Vec::new();
        if !criteria.is_empty() {
            let (stale, counted) = self.count_entries(hospital, &criteria).await?;
            counts = counted;
            if stale && search.name_start.is_some() {
                self.index_names_for_search(hospital).await?;
                counts = self.count_entries(hospital, &criteria).await?.1;
            }
        }
        let mut counts = counts.into_iter();
        let mut counted = |criteria: Vec<Criterion>| -> Vec<Counted> {
            let with_count = criteria.into_iter().zip(counts.by_ref());
            with_count
                .map(|(criterion, entries)| Counted { criterion, entries })
                .collect()
        };
        let mut texts = texts.map(&mut counted);
        if let Some(texts) = &mut texts {
            texts.retain(|text| text.entries > 0);
        }
        Ok(SearchPlan {
            texts,
            filters: counted(filters),
            max_sorted: self.limits.max_sorted_patients,
        })
    }

    /// Whether there are names to index, and the number of entries of each criterion, counted up to a bound.
    async fn count_entries(&self, hospital: i64, criteria: &[&Criterion]) -> Result<(bool, Vec<u64>)> {
        let mut sql =
            self.sql("SELECT (SELECT COUNT(*) FROM (SELECT 1 AS one FROM patient_to_index WHERE hospital_id = ");
        sql.bind(hospital).push(" LIMIT 1) t)");
        let alone = criteria.len() == 1;
        for criterion in criteria {
            let bound = bound(self.limits.max_sorted_patients, criterion, alone);
            sql.push(", (SELECT COUNT(*) FROM (");
            self.entries_sql(&mut sql, hospital, criterion)?;
            sql.push(&format!(" LIMIT {bound}) e)"));
        }
        let row = self.readers.query_one_raw(sql.done()).await?;
        let count = |at: usize| -> Result<u64> {
            let count: Option<i64> = row.as_ref().map(|row| row.try_get_by_index(at)).transpose()?;
            Ok(count.unwrap_or(0).unsigned_abs())
        };
        let counts = (1..=criteria.len()).map(count).collect::<Result<_>>()?;
        Ok((count(0)? > 0, counts))
    }

    /// A page of the hospital's patients. First and last visits are attended ones up to `today`.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn patient_page(
        &self,
        hospital: i64,
        plan: &SearchPlan,
        key: PatientKey,
        today: NaiveDate,
        seek: &Keyset<Option<String>>,
    ) -> Result<Vec<KeyedPatient>> {
        if plan.is_empty() {
            return Ok(Vec::new());
        }
        let parts = plan.parts(key);
        let in_order = parts.iter().any(|part| matches!(part.source, Source::Order(_)));
        let mut rows = if in_order && has_index(key) {
            self.page_by_index(hospital, &parts, key, seek).await?
        } else {
            let expression = self.patient_key(key, today);
            self.page_of(hospital, &parts, key, &expression, None, seek).await?
        };
        if seek.backwards {
            rows.reverse();
        }
        Ok(rows)
    }

    /// The rows of a page by a column that has an index: first of patients with a value, then, where these do not fill the page,
    /// of patients without one. One statement for both could not use the index. With `backwards` the rows come in reverse.
    async fn page_by_index(
        &self,
        hospital: i64,
        parts: &[Part<'_>],
        key: PatientKey,
        seek: &Keyset<Option<String>>,
    ) -> Result<Vec<KeyedPatient>> {
        let column = match key {
            PatientKey::Name => "p.name",
            PatientKey::RegisteredOn => "p.registered_on",
            _ => "p.chart_no",
        };
        let from_null = seek.from.as_ref().map(|(key, _)| key.is_none());
        let mut rows = Vec::new();
        let halves = if seek.backwards { [true, false] } else { [false, true] };
        for null in halves
            .into_iter()
            .skip_while(|&null| from_null.is_some_and(|from| from != null))
        {
            let half = Keyset {
                from: seek.from.clone().filter(|_| from_null == Some(null)),
                limit: seek.limit.saturating_sub(rows.len() as u64),
                ..seek.clone()
            };
            if half.limit == 0 {
                break;
            }
            rows.extend(self.page_of(hospital, parts, key, column, Some(null), &half).await?);
        }
        Ok(rows)
    }

    /// The rows of a page, by the SQL of a key: of all patients, or of those for whom the key is null or is not null. With `backwards`
    /// they come in reverse.
    async fn page_of(
        &self,
        hospital: i64,
        parts: &[Part<'_>],
        key: PatientKey,
        expression: &str,
        null: Option<bool>,
        seek: &Keyset<Option<String>>,
    ) -> Result<Vec<KeyedPatient>> {
        let nullable = null.unwrap_or(true);
        let order = |of: &str| {
            let (key, id) = (format!("{of}sort_key"), format!("{of}id"));
            order_sql(&key, nullable, &id, seek.descending, seek.backwards)
        };
        // The key as text; by an index it is read as the column is.
        let shown = match (key, null) {
            (PatientKey::RegisteredOn, Some(_)) => self.date_text("k.sort_key"),
            _ => "k.sort_key".to_owned(),
        };
        let mut sql = self.sql(&format!("SELECT p.*, {shown} AS shown_key FROM (SELECT * FROM ("));
        for (place, part) in parts.iter().enumerate() {
            sql.push(if place > 0 {
                " UNION SELECT * FROM ("
            } else {
                "SELECT * FROM ("
            });
            match null {
                None => {
                    sql.push("SELECT * FROM (");
                    self.keyed_sql(&mut sql, hospital, part, key, expression)?;
                    sql.push(") c WHERE 1 = 1");
                    seek_sql(&mut sql, "c.sort_key", true, "c.id", seek, |sql, value| {
                        sql.bind(value);
                    });
                }
                Some(null) => self.part_in_order_sql(&mut sql, hospital, part, key, (expression, null), seek)?,
            }
            sql.push(&format!(") part{place}"));
        }
        sql.push(&format!(") u ORDER BY {} LIMIT {}", order("u."), seek.limit));
        sql.push(") k JOIN patient p ON p.id = k.id AND p.hospital_id = ")
            .bind(hospital);
        sql.push(" ORDER BY ").push(&order("k."));
        let rows = self.readers.query_all_raw(sql.done()).await?;
        rows.iter()
            .map(|row| {
                Ok((
                    Patient::try_from(entity::patient::Model::from_query_result(row, "")?)?,
                    row.try_get("", "shown_key")?,
                ))
            })
            .collect()
    }

    /// Adds a SELECT of the ids of a part's patients and of a key.
    fn keyed_sql(
        &self,
        sql: &mut Sql,
        hospital: i64,
        part: &Part<'_>,
        key: PatientKey,
        expression: &str,
    ) -> Result<()> {
        if let Some(start) = part.covered_name(key) {
            sql.push(&format!("SELECT p.patient_id AS id, {expression} AS sort_key FROM "));
            self.named_sql(sql, hospital, start, &part.conditions)
        } else {
            sql.push(&format!("SELECT p.id, {expression} AS sort_key FROM "));
            self.part_sql(sql, hospital, part, Some(key))
        }
    }

    /// Adds the page of a part by a column that has an index: of patients with a value, or of those without.
    fn part_in_order_sql(
        &self,
        sql: &mut Sql,
        hospital: i64,
        part: &Part<'_>,
        key: PatientKey,
        (column, null): (&str, bool),
        seek: &Keyset<Option<String>>,
    ) -> Result<()> {
        let bind = |sql: &mut Sql, value: &str| match (key, value.parse::<NaiveDate>()) {
            (PatientKey::RegisteredOn, Ok(date)) => {
                sql.bind(date);
            }
            _ => {
                sql.bind(value);
            }
        };
        let covered = part.covered_name(key).is_some();
        let id = if covered { "p.patient_id" } else { "p.id" };
        let has_key = format!(" AND {column} IS {}NULL", if null { "" } else { "NOT " });
        let direction = if seek.descending == seek.backwards {
            "ASC"
        } else {
            "DESC"
        };
        // MariaDB's indexes have the ids of equal keys in the direction of the keys. So the keys of the page are found first.
        let is_mariadb = self.readers.get_database_backend() == DbBackend::MySql;
        if is_mariadb && seek.descending && !null && !covered && key != PatientKey::ChartNo {
            sql.push(&format!(
                "SELECT p.id, {column} AS sort_key FROM (SELECT DISTINCT sort_key FROM ("
            ));
            self.keyed_sql(sql, hospital, part, key, column)?;
            seek_conditions_sql(sql.push(&has_key), column, false, id, seek, bind);
            sql.push(&format!(" ORDER BY {column} {direction} LIMIT {}", seek.limit));
            sql.push(") page) page_keys STRAIGHT_JOIN ");
            self.part_sql(sql, hospital, part, Some(key))?;
            sql.push(&format!(" AND {column} = page_keys.sort_key"));
        } else {
            self.keyed_sql(sql, hospital, part, key, column)?;
            sql.push(&has_key);
        }
        if key == PatientKey::ChartNo && !null {
            // It is unique.
            seek_conditions_sql(sql, column, false, id, seek, bind);
            sql.push(&format!(" ORDER BY {column} {direction} LIMIT {}", seek.limit));
        } else {
            seek_sql(sql, column, false, id, seek, bind);
        }
        Ok(())
    }

    /// Adds what follows FROM in a SELECT of the entries of names as `p`, which stand for the patients; it ends in conditions.
    fn named_sql(&self, sql: &mut Sql, hospital: i64, start: &str, conditions: &[&Criterion]) -> Result<()> {
        sql.push("patient_name_suffix p WHERE p.hospital_id = ").bind(hospital);
        name_starts_with(sql, "p", start);
        for condition in conditions {
            self.condition_sql(sql.push(" AND "), hospital, condition)?;
        }
        Ok(())
    }

    /// The number of patients that match.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn patient_total(&self, hospital: i64, plan: &SearchPlan) -> Result<u64> {
        if plan.is_empty() {
            return Ok(0);
        }
        if plan.texts.is_none() && plan.filters.is_empty() {
            return self.patient_count(hospital).await;
        }
        if let Some(total) = plan.total() {
            return Ok(total);
        }
        let narrow = plan.narrowest_filter().is_some();
        let filters: Vec<&Criterion> = plan.filters.iter().map(|filter| &filter.criterion).collect();
        if let (false, Some(texts)) = (narrow, &plan.texts) {
            let numbers = texts.iter().all(|text| text.criterion.is_number());
            if numbers {
                return self.total_of_numbers(hospital, texts, &filters).await;
            }
        }
        let mut sql = self.sql("SELECT COUNT(*) FROM ");
        match plan.texts.as_deref().filter(|_| !narrow) {
            Some(
                [
                    Counted {
                        criterion: Criterion::Name(start),
                        ..
                    },
                ],
            ) if only_registered(filters.iter().copied()) => self.named_sql(&mut sql, hospital, start, &filters)?,
            Some(texts) => {
                sql.push("(SELECT DISTINCT id FROM (");
                for (place, text) in texts.iter().enumerate() {
                    sql.push(if place > 0 { " UNION ALL " } else { "" });
                    sql.push("SELECT id FROM (");
                    self.entries_sql(&mut sql, hospital, &text.criterion)?;
                    sql.push(&format!(") f{place}"));
                }
                sql.push(") f) e").push(&self.join_patients()).bind(hospital);
                sql.push(" WHERE p.state = 'ACTIVE'");
                for filter in &plan.filters {
                    self.condition_sql(sql.push(" AND "), hospital, &filter.criterion)?;
                }
            }
            None => {
                for part in plan.parts(PatientKey::ChartNo) {
                    self.part_sql(&mut sql, hospital, &part, None)?;
                }
            }
        }
        one_count(self.readers.query_one_raw(sql.done()).await?)
    }

    /// The number of patients whose chart number, or that of a record merged into them, starts with one of several texts, none of
    /// which is the start of another.
    async fn total_of_numbers(&self, hospital: i64, texts: &[Counted], filters: &[&Criterion]) -> Result<u64> {
        let own = || {
            texts
                .iter()
                .filter(|text| matches!(text.criterion, Criterion::ChartNo(_)))
        };
        let mut sql = self.sql("SELECT 0");
        for number in own() {
            sql.push(" + (SELECT COUNT(*) FROM ")
                .push(&self.patients_by(index_of(&number.criterion)))
                .bind(hospital);
            for condition in std::iter::once(&number.criterion).chain(filters.iter().copied()) {
                self.condition_sql(sql.push(" AND "), hospital, condition)?;
            }
            sql.push(")");
        }
        for merged in texts
            .iter()
            .filter(|text| !matches!(text.criterion, Criterion::ChartNo(_)))
        {
            sql.push(" + (SELECT COUNT(DISTINCT e.id) FROM (");
            self.entries_sql(&mut sql, hospital, &merged.criterion)?;
            sql.push(") e").push(&self.join_patients()).bind(hospital);
            sql.push(" WHERE p.state = 'ACTIVE'");
            for condition in filters {
                self.condition_sql(sql.push(" AND "), hospital, condition)?;
            }
            for number in own() {
                // Not true: the number may be null.
                self.condition_sql(sql.push(" AND (CASE WHEN "), hospital, &number.criterion)?;
                sql.push(" THEN 1 ELSE 0 END) = 0");
            }
            sql.push(")");
        }
        one_count(self.readers.query_one_raw(sql.done()).await?)
    }

    /// Adds what follows FROM in a SELECT of a part's patients as `p`; it ends in conditions.
    fn part_sql(&self, sql: &mut Sql, hospital: i64, part: &Part<'_>, order: Option<PatientKey>) -> Result<()> {
        match part.source {
            // Each index that comes into question has all of this.
            Source::Entries(criterion @ (Criterion::Registered(_) | Criterion::ChartNo(_)))
                if only_registered(part.conditions.iter().copied()) && part.alternatives.is_empty() =>
            {
                sql.push(&self.patients_by(index_of(criterion))).bind(hospital);
                self.condition_sql(sql.push(" AND "), hospital, criterion)?;
            }
            Source::Entries(criterion) => {
                let distinct = matches!(criterion, Criterion::MergedChartNo(_));
                sql.push(if distinct {
                    "(SELECT DISTINCT id FROM ("
                } else {
                    "(SELECT id FROM ("
                });
                self.entries_sql(sql, hospital, criterion)?;
                sql.push(") f) e").push(&self.join_patients()).bind(hospital);
                sql.push(" WHERE p.state = 'ACTIVE'");
            }
            Source::Order(criterion) => {
                let of_condition = || part.conditions.iter().copied().chain(criterion).find_map(index_of);
                sql.push(&self.patients_by(order.and_then(index_of_order).or_else(of_condition)))
                    .bind(hospital);
                if let Some(criterion) = criterion {
                    self.condition_sql(sql.push(" AND "), hospital, criterion)?;
                }
            }
        }
        for condition in &part.conditions {
            self.condition_sql(sql.push(" AND "), hospital, condition)?;
        }
        for (place, alternative) in part.alternatives.iter().enumerate() {
            sql.push(if place == 0 { " AND (" } else { " OR " });
            self.condition_sql(sql, hospital, alternative)?;
        }
        if !part.alternatives.is_empty() {
            sql.push(")");
        }
        Ok(())
    }

    /// The ACTIVE patients as `p`, by an index; what follows is the hospital. MariaDB would rather sort all patients of the hospital
    /// than follow the index.
    fn patients_by(&self, index: Option<&str>) -> String {
        let hint = match (self.readers.get_database_backend(), index) {
            (DbBackend::MySql, Some(index)) => format!(" FORCE INDEX ({index})"),
            (DbBackend::Sqlite, Some(index)) => format!(" INDEXED BY {index}"),
            _ => String::new(),
        };
        format!("patient p{hint} WHERE p.state = 'ACTIVE' AND p.hospital_id = ")
    }

    /// The join of entries `e` with their patients; what follows is the hospital. The entries are to be read first.
    fn join_patients(&self) -> String {
        let join = match self.readers.get_database_backend() {
            DbBackend::Sqlite => "CROSS JOIN",
            DbBackend::MySql => "STRAIGHT_JOIN",
            _ => "JOIN",
        };
        format!(" {join} patient p ON p.id = e.id AND p.hospital_id = ")
    }

    /// Adds a SELECT of the ids of the ACTIVE patients that meet a criterion, from its index; of those into whom others were merged,
    /// the same patient may come several times, and some may not be ACTIVE.
    fn entries_sql(&self, sql: &mut Sql, hospital: i64, criterion: &Criterion) -> Result<()> {
        match criterion {
            Criterion::Name(start) => {
                sql.push("SELECT s.patient_id AS id FROM patient_name_suffix s WHERE s.hospital_id = ")
                    .bind(hospital);
                name_starts_with(sql, "s", start);
            }
            Criterion::MergedChartNo(prefixes) => {
                for (place, prefix) in prefixes.iter().enumerate() {
                    sql.push(if place == 0 { "" } else { " UNION ALL " });
                    sql.push("SELECT m.merged_into AS id FROM patient m WHERE m.merged_into IS NOT NULL AND m.state = 'MERGED'");
                    sql.push(" AND m.hospital_id = ").bind(hospital);
                    starts_with(sql.push(" AND "), "m.chart_no", prefix);
                }
            }
            _ => {
                sql.push("SELECT p.id FROM ")
                    .push(&self.patients_by(index_of(criterion)))
                    .bind(hospital);
                self.condition_sql(sql.push(" AND "), hospital, criterion)?;
            }
        }
        Ok(())
    }

    /// Adds the condition that the patient `p` meets a criterion.
    fn condition_sql(&self, sql: &mut Sql, hospital: i64, criterion: &Criterion) -> Result<()> {
        match criterion {
            Criterion::Name(start) => {
                // A scalar: a database could replace EXISTS by a join that does not follow the list's order.
                sql.push("(SELECT 1 FROM patient_name_suffix s WHERE s.patient_id = p.id AND s.hospital_id = ")
                    .bind(hospital);
                starts_with(sql.push(" AND "), "s.suffix", start);
                sql.push(" LIMIT 1) IS NOT NULL");
            }
            Criterion::ChartNo(start) => starts_with(sql, "p.chart_no", start),
            Criterion::MergedChartNo(_) => {
                sql.push("p.id IN (");
                self.entries_sql(sql, hospital, criterion)?;
                sql.push(")");
            }
            Criterion::Phone(phone) => {
                let indexes = self.secrets.phone_indexes(hospital, phone)?;
                one_of(sql, "p.phone_index", indexes);
            }
            Criterion::PhoneEnding(endings) => {
                for (place, digits) in endings.iter().enumerate() {
                    sql.push(if place == 0 { "(" } else { " OR " });
                    self.phone_ends_with(sql, hospital, digits)?;
                }
                sql.push(")");
            }
            Criterion::BirthDate(date) => {
                sql.push("p.birth_date = ").bind(*date);
            }
            Criterion::Registered(range) => {
                sql.push("p.registered_on BETWEEN ").bind(range.from.date());
                sql.push(" AND ").bind(range.to.date());
            }
        }
        Ok(())
    }

    fn phone_ends_with(&self, sql: &mut Sql, hospital: i64, digits: &str) -> Result<()> {
        let longer = digits.len().saturating_sub(SHORTEST_PHONE_ENDING);
        let last_four = digits.get(longer..).unwrap_or(digits);
        one_of(
            sql,
            "p.phone_last_four",
            self.secrets.phone_ending_hashes(hospital, last_four)?,
        );
        if longer > 0 {
            let column = format!(
                "substr(p.phone_endings, {}, {PHONE_ENDING_HASH})",
                (longer - 1) * PHONE_ENDING_HASH + 1
            );
            one_of(
                sql.push(" AND "),
                &column,
                self.secrets.phone_ending_hashes(hospital, digits)?,
            );
        }
        Ok(())
    }
}

/// The index of the patients who meet a criterion, where it has their state.
const fn index_of(criterion: &Criterion) -> Option<&'static str> {
    match criterion {
        Criterion::ChartNo(_) => index_of_order(PatientKey::ChartNo),
        Criterion::Registered(_) => index_of_order(PatientKey::RegisteredOn),
        _ => None,
    }
}

/// The index of the patients in the order of a key.
const fn index_of_order(key: PatientKey) -> Option<&'static str> {
    match key {
        PatientKey::ChartNo => Some("patient_by_number"),
        PatientKey::Name => Some("patient_by_name"),
        PatientKey::RegisteredOn => Some("patient_by_registered_on"),
        PatientKey::FirstVisit | PatientKey::LastVisit => None,
    }
}

/// Adds the condition that the column is one of the values, which are as many as there are keys.
fn one_of(sql: &mut Sql, column: &str, values: Vec<Vec<u8>>) {
    for (place, value) in values.into_iter().enumerate() {
        sql.push(&if place == 0 {
            format!("{column} IN (")
        } else {
            ", ".to_owned()
        });
        sql.bind(value);
    }
    sql.push(")");
}

/// Adds the conditions that an entry of names starts with a text and is the first of its patient that does.
fn name_starts_with(sql: &mut Sql, entry: &str, start: &str) {
    starts_with(sql.push(" AND "), &format!("{entry}.suffix"), start);
    sql.push(&format!(" AND {entry}.shared < {}", start.chars().count()));
}

/// Adds the condition that the column starts with a text, as a range that an index has.
fn starts_with(sql: &mut Sql, column: &str, prefix: &str) {
    sql.push(&format!("({column} >= ")).bind(prefix);
    if let Some(end) = text::after_prefix(prefix) {
        sql.push(&format!(" AND {column} < ")).bind(end);
    }
    sql.push(")");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

    use super::*;
    use crate::config::Limits;
    use crate::password::NewPassword;
    use crate::permissions::{Role, Viewer};
    use crate::records::{Patch, PatientDraft};
    use crate::secrets::Secrets;
    use crate::statistics::WeekStart;
    use crate::store::{AddStaff, ImportOptions, MergePatients, NewHospital, OpenMode};

    /// A patient as the reference has it: names of lower-case letters and Korean syllables, so that folding changes nothing.
    #[derive(Clone, Debug)]
    struct Person {
        id: i64,
        chart_no: String,
        words: Vec<String>,
        phone: String,
        birth_date: NaiveDate,
        registered_on: NaiveDate,
        /// The chart numbers of the records merged into it.
        merged: Vec<String>,
    }

    impl Person {
        fn name(&self) -> Option<String> {
            (!self.words.is_empty()).then(|| self.words.join(" "))
        }

        /// Whether the name from the start of a word on starts with the text.
        fn has_name(&self, text: &str) -> bool {
            let starts = self.words.iter().enumerate().flat_map(|(at, word)| {
                let rest = self.words[at + 1..].concat();
                let korean = word
                    .char_indices()
                    .skip(1)
                    .filter(|(_, c)| *c > '\u{ac00}')
                    .map(|(at, _)| at);
                let froms: Vec<usize> = std::iter::once(0).chain(korean).collect();
                froms.into_iter().map(move |from| format!("{}{rest}", &word[from..]))
            });
            starts
                .collect::<Vec<_>>()
                .iter()
                .any(|from| from.starts_with(&text.replace(' ', "")))
        }

        fn has_number(&self, text: &str) -> bool {
            let mut numbers = std::iter::once(&self.chart_no).chain(&self.merged);
            numbers.any(|number| number.starts_with(text) || number.trim_start_matches('0').starts_with(text))
        }
    }

    fn day(n: i64) -> NaiveDate {
        NaiveDate::default() + chrono::TimeDelta::days(n)
    }

    fn pick<'a, T>(random: &mut StdRng, list: &'a [T]) -> &'a T {
        &list[random.random_range(0..list.len())]
    }

    /// A hospital of random patients, some of whom are merged into others.
    async fn hospital(random: &mut StdRng, store: &Store) -> (i64, Vec<Person>) {
        let new = NewHospital {
            code: "H1".to_owned(),
            name: "One".to_owned(),
            country: Some("KR".to_owned()),
            time_zone: chrono_tz::Asia::Seoul,
            week_start: WeekStart::Monday,
            churn_after_days: 90,
            overdue_after_days: None,
        };
        let hospital = store.add_hospital(&new).await.unwrap();
        let words = ["ann", "anna", "ash", "li", "l", "김", "김영", "영수", "이솔", "솔김"];
        let mut people: Vec<Person> = (1..=150)
            .map(|id| Person {
                id,
                chart_no: format!("{:0width$}", id * 7, width = random.random_range(1..7)),
                words: (0..random.random_range(0..4))
                    .map(|_| (*pick(random, &words)).to_owned())
                    .collect(),
                phone: format!(
                    "+8210{:04}{:04}",
                    random.random_range(2_000..2_003),
                    random.random_range(0..12)
                ),
                birth_date: day(random.random_range(0..20)),
                registered_on: day(random.random_range(7_000..7_040)),
                merged: Vec::new(),
            })
            .collect();
        let draft = |person: &Person| PatientDraft {
            chart_no: Some(person.chart_no.clone()),
            name: person.name().into(),
            phone: Patch::Put(person.phone.clone()),
            birth_date: Patch::Put(person.birth_date),
            registered_on: Patch::Put(person.registered_on),
            ..PatientDraft::default()
        };
        let drafts: Vec<PatientDraft> = people.iter().map(draft).collect();
        store
            .importer(hospital, ImportOptions::commit("test"))
            .patients(&drafts)
            .await
            .unwrap();
        let desk = AddStaff {
            login: "desk".to_owned(),
            name: "Desk".to_owned(),
            role: Role::Desk,
            password: NewPassword::of("password", "correct horse".to_owned()).unwrap(),
        };
        let staff = store.execute_as_operator(hospital, &desk).await.unwrap();
        let viewer = Viewer {
            hospital,
            staff,
            role: Role::Desk,
        };
        for _ in 0..20 {
            let from = random.random_range(0..people.len());
            let gone = people.remove(from);
            let into = random.random_range(0..people.len());
            people[into]
                .merged
                .extend(gone.merged.into_iter().chain([gone.chart_no]));
            let merge = MergePatients {
                id: gone.id,
                version: 1,
                into: people[into].id,
                reason: "twice".to_owned(),
            };
            store.execute(&viewer, &merge, None).await.unwrap();
        }
        (hospital, people)
    }

    fn search(random: &mut StdRng, people: &[Person]) -> PatientSearch {
        let mut search = PatientSearch::default();
        let person = pick(random, people);
        if random.random_bool(0.8) {
            let text: String = if random.random_bool(0.5) {
                let words = person.words.iter().skip(random.random_range(0..2)).cloned();
                words
                    .collect::<Vec<_>>()
                    .join(if random.random_bool(0.5) { " " } else { "" })
            } else {
                person
                    .chart_no
                    .trim_start_matches(if random.random_bool(0.5) { "0" } else { "" })
                    .to_owned()
            };
            let length = random.random_range(1..5);
            let text: String = text.chars().take(length).collect();
            if !text.is_empty() {
                search.name_start = random.random_bool(0.9).then(|| text.clone());
                search.chart_start = Some(text);
                search.phone = random.random_bool(0.2).then(|| person.phone.clone());
            }
        }
        if random.random_bool(0.3) {
            search.birth_date = Some(person.birth_date);
        }
        if random.random_bool(0.3) {
            let length = random.random_range(4..=12);
            search.phone_endings = vec![person.phone[person.phone.len() - length..].to_owned()];
        }
        if random.random_bool(0.3) {
            let from = random.random_range(7_000..7_040);
            let days = |n: i64| crate::statistics::Day::from(day(n));
            search.registered = DayRange::new(days(from), days(from + random.random_range(0..20)));
        }
        search
    }

    fn matches(person: &Person, search: &PatientSearch) -> bool {
        let has_text = search.name_start.is_some() || search.chart_start.is_some() || search.phone.is_some();
        let text = search.name_start.as_deref().is_some_and(|text| person.has_name(text))
            || search
                .chart_start
                .as_deref()
                .is_some_and(|text| person.has_number(text))
            || search.phone.as_ref() == Some(&person.phone);
        let ending = search.phone_endings.iter().any(|ending| person.phone.ends_with(ending));
        (text || !has_text)
            && search.birth_date.is_none_or(|date| date == person.birth_date)
            && (ending || search.phone_endings.is_empty())
            && search
                .registered
                .is_none_or(|range| (range.from.date()..=range.to.date()).contains(&person.registered_on))
    }

    /// Whether few matches are sorted or many are found in the list's order: the pages are those of all patients compared one by one.
    #[tokio::test]
    async fn pages_are_those_of_a_naive_search() {
        let mut random = StdRng::seed_from_u64(7);
        for max_sorted_patients in [0, 3, 4_000] {
            let folder = tempfile::tempdir().unwrap();
            let url = format!("sqlite://{}", folder.path().join("test.db").display());
            let secrets = Secrets::open(&folder.path().join("key"), true).unwrap();
            let limits = Arc::new(Limits {
                max_sorted_patients,
                ..Limits::default()
            });
            let store = Store::connect(&url, secrets, OpenMode::Create, limits).await.unwrap();
            store.migrate().await.unwrap();
            let (hospital, people) = hospital(&mut random, &store).await;
            for _ in 0..250 {
                let search = search(&mut random, &people);
                let key = *pick(
                    &mut random,
                    &[PatientKey::ChartNo, PatientKey::Name, PatientKey::RegisteredOn],
                );
                let descending = random.random_bool(0.3);
                let key_of = |person: &Person| match key {
                    PatientKey::Name => person.name(),
                    PatientKey::ChartNo => Some(person.chart_no.clone()),
                    _ => Some(person.registered_on.to_string()),
                };
                let mut expected: Vec<_> = people.iter().filter(|person| matches(person, &search)).collect();
                expected.sort_by(|one, other| {
                    let (a, b) = (key_of(one), key_of(other));
                    let keys = if descending && a.is_some() && b.is_some() {
                        b.cmp(&a)
                    } else {
                        a.cmp(&b)
                    };
                    a.is_none().cmp(&b.is_none()).then(keys).then(one.id.cmp(&other.id))
                });
                let expected: Vec<i64> = expected.iter().map(|person| person.id).collect();
                let plan = store.plan_search(hospital, &search).await.unwrap();
                assert_eq!(
                    store.patient_total(hospital, &plan).await.unwrap(),
                    expected.len() as u64,
                    "{search:?}"
                );
                let backwards = random.random_bool(0.3);
                let (mut ids, mut from) = (Vec::new(), None);
                loop {
                    let seek = Keyset {
                        descending,
                        from: from.take(),
                        backwards,
                        limit: 7,
                    };
                    let page = store
                        .patient_page(hospital, &plan, key, NaiveDate::default(), &seek)
                        .await
                        .unwrap();
                    let end = if backwards { page.first() } else { page.last() };
                    from = end.map(|(row, key)| (key.clone(), row.id));
                    let page = page.iter().map(|(row, _)| row.id);
                    if backwards {
                        ids.splice(0..0, page);
                    } else {
                        ids.extend(page);
                    }
                    if from.is_none() {
                        break;
                    }
                }
                assert_eq!(ids, expected, "{search:?} {key:?} {descending} {plan:?}");
            }
            store.close().await.unwrap();
        }
    }
}
