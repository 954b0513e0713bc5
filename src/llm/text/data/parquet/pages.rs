//! Pages compressed with zstd or brotli, unpacked here by crates in plain Rust: those that the reader could
//! be built with need a C compiler, or take three times as long to build.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::{FileReader, RowGroupReader};
use parquet::file::serialized_reader::{SerializedFileReader, SerializedPageReader};
use parquet::record::reader::RowIter;
use parquet::schema::types::Type;

/// Most bytes of a page, unpacked. Writers make pages of 1 MiB or so.
const MOST: u64 = 1 << 28;

/// How pages are compressed that are unpacked here.
#[derive(Debug, Clone, Copy)]
enum Codec {
    Zstd,
    Brotli,
}

impl Codec {
    fn of(compression: Compression) -> Option<Self> {
        match compression {
            Compression::ZSTD(_) => Some(Self::Zstd),
            Compression::BROTLI(_) => Some(Self::Brotli),
            _ => None,
        }
    }

    fn unpacked(self, bytes: &[u8]) -> Result<Vec<u8>> {
        let failed = |e: &dyn std::fmt::Display| ParquetError::General(format!("a page: {e}"));
        let reader: Box<dyn Read + '_> = match self {
            Self::Zstd => {
                Box::new(ruzstd::decoding::StreamingDecoder::new(bytes).map_err(|e| failed(&e))?)
            }
            Self::Brotli => Box::new(brotli_decompressor::Decompressor::new(bytes, 1 << 12)),
        };
        let mut unpacked = Vec::new();
        (reader.take(MOST + 1).read_to_end(&mut unpacked)).map_err(|e| failed(&e))?;
        if unpacked.len() as u64 > MOST {
            Err(failed(&"it has more than 256 MiB"))
        } else {
            Ok(unpacked)
        }
    }
}

/// Whether columns compressed so are unpacked here.
pub(super) fn reads(compression: Compression) -> bool {
    Codec::of(compression).is_some()
}

/// A file whose pages are unpacked here where they have to be.
pub(super) struct Pages {
    reader: SerializedFileReader<File>,
    file: Arc<File>,
}

impl Pages {
    pub fn new(file: File) -> Result<Self> {
        let reader = SerializedFileReader::new(file.try_clone()?)?;
        let file = Arc::new(file);
        Ok(Self { reader, file })
    }
}

impl FileReader for Pages {
    fn metadata(&self) -> &ParquetMetaData {
        self.reader.metadata()
    }

    fn num_row_groups(&self) -> usize {
        self.reader.num_row_groups()
    }

    fn get_row_group(&self, i: usize) -> Result<Box<dyn RowGroupReader + '_>> {
        Ok(Box::new(Group {
            group: self.reader.get_row_group(i)?,
            file: self.file.clone(),
        }))
    }

    fn get_row_iter(&self, projection: Option<Type>) -> Result<RowIter<'_>> {
        RowIter::from_file(projection, self)
    }
}

struct Group<'a> {
    group: Box<dyn RowGroupReader + 'a>,
    file: Arc<File>,
}

impl RowGroupReader for Group<'_> {
    fn metadata(&self) -> &RowGroupMetaData {
        self.group.metadata()
    }

    fn num_columns(&self) -> usize {
        self.group.num_columns()
    }

    fn get_column_page_reader(&self, i: usize) -> Result<Box<dyn PageReader>> {
        let column = self.metadata().column(i);
        let Some(codec) = Codec::of(column.compression()) else {
            return self.group.get_column_page_reader(i);
        };
        // As if they were not compressed: pages come as they are in the file.
        let builder = column.clone().into_builder();
        let plain = builder.set_compression(Compression::UNCOMPRESSED).build()?;
        let rows = usize::try_from(self.metadata().num_rows())?;
        let pages = SerializedPageReader::new(self.file.clone(), &plain, rows, None)?;
        Ok(Box::new(Unpacking { pages, codec }))
    }

    fn get_column_bloom_filter(&self, _: usize) -> Option<&parquet::bloom_filter::Sbbf> {
        None
    }

    fn get_row_iter(&self, projection: Option<Type>) -> Result<RowIter<'_>> {
        RowIter::from_row_group(projection, self)
    }
}

struct Unpacking {
    pages: SerializedPageReader<File>,
    codec: Codec,
}

impl Unpacking {
    fn unpacked(&self, mut page: Page) -> Result<Page> {
        match &mut page {
            Page::DataPage { buf, .. } | Page::DictionaryPage { buf, .. } => {
                *buf = self.codec.unpacked(buf)?.into();
            }
            // Of the second version the levels before the values are never compressed.
            Page::DataPageV2 {
                buf,
                def_levels_byte_len,
                rep_levels_byte_len,
                is_compressed,
                ..
            } if *is_compressed => {
                let levels = u64::from(*def_levels_byte_len) + u64::from(*rep_levels_byte_len);
                let short = || ParquetError::General("a page is shorter than its levels".into());
                let levels = usize::try_from(levels).map_err(|_| short())?;
                let (levels, values) = buf.split_at_checked(levels).ok_or_else(short)?;
                let values = if values.is_empty() {
                    Vec::new()
                } else {
                    self.codec.unpacked(values)?
                };
                *buf = [levels, &values].concat().into();
                *is_compressed = false;
            }
            Page::DataPageV2 { .. } => {}
        }
        Ok(page)
    }
}

impl Iterator for Unpacking {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Unpacking {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        page.map(|page| self.unpacked(page)).transpose()
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.pages.at_record_boundary()
    }
}
