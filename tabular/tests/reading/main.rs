//! Files as people have them, through the crate's interface.
#![allow(clippy::unwrap_used, clippy::panic)]

mod csv;
mod properties;
mod xlsx;

use tabular::{Error, Options, Problem, Reading, Table};

fn options(columns: &[&str]) -> Options {
    Options {
        columns: columns.iter().map(|&column| column.to_owned()).collect(),
        ..Options::default()
    }
}

/// The file of the bytes, opened by its path.
fn open(bytes: &[u8], options: &Options) -> Result<Table, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, bytes).unwrap();
    tabular::open(&path, options)
}

type Rows = Vec<(u64, Vec<String>, Vec<Problem>)>;

/// The reading and rows; the same whether the bytes are a file or a stream.
fn read(bytes: &[u8], options: &Options) -> Result<(Reading, Rows), Error> {
    let collect = |mut table: Table| -> Result<(Reading, Rows, [u8; 32]), Error> {
        let mut rows = Vec::new();
        for row in table.by_ref() {
            let row = row?;
            rows.push((row.line, row.cells.iter().map(str::to_owned).collect(), row.problems));
        }
        assert_eq!(table.bytes_read(), bytes.len() as u64);
        Ok((table.reading().clone(), rows, table.digest().unwrap()))
    };
    let by_path = open(bytes, options).and_then(collect);
    let by_stream = tabular::read(std::io::Cursor::new(bytes.to_vec()), options).and_then(collect);
    match (by_path, by_stream) {
        (Ok(file), Ok(stream)) => {
            use sha2::Digest as _;
            assert_eq!(file, stream);
            assert_eq!(file.2[..], sha2::Sha256::digest(bytes)[..]);
            Ok((file.0, file.1))
        }
        (Err(file), Err(stream)) => {
            assert_eq!(file.to_string(), stream.to_string());
            Err(file)
        }
        (file, stream) => panic!("{:?} and {:?}", file.err(), stream.err()),
    }
}

fn cells(rows: &Rows) -> Vec<Vec<&str>> {
    rows.iter()
        .map(|(_, cells, _)| cells.iter().map(String::as_str).collect())
        .collect()
}

fn refused(bytes: &[u8], options: &Options) -> String {
    read(bytes, options).unwrap_err().to_string()
}
