//! Enums whose variants each have one string, in the database, in files and in the API.

/// What [`string_enum!`] defines, for functions that take any of these enums.
pub trait StringEnum: Copy + PartialEq + 'static {
    /// Every value, in order.
    const ALL: &'static [Self];

    /// The string of the value.
    fn as_str(self) -> &'static str;
}

/// Defines a field-less enum whose variants each have one string.
///
/// Variants keep the order in which they are listed; their discriminants count from 0.
#[macro_export]
macro_rules! string_enum {
    ($(#[$meta:meta])* $name:ident { $($variant:ident = $string:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name { $($variant),+ }

        impl $name {
            /// Every value, in order.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The string of the value, as the database, files and the API have it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $string),+ }
            }

            /// The value of a string, case-sensitive.
            #[must_use]
            pub fn parse(string: &str) -> Option<Self> {
                match string { $($string => Some(Self::$variant),)+ _ => None }
            }

            /// The value at a position, counted from 0.
            #[must_use]
            pub fn from_index(index: u8) -> Option<Self> {
                Self::ALL.get(usize::from(index)).copied()
            }
        }

        impl $crate::StringEnum for $name {
            const ALL: &'static [Self] = Self::ALL;

            fn as_str(self) -> &'static str {
                self.as_str()
            }
        }
    };
}
