//! Enums whose values are strings in the API.

/// Defines an enum with one string per variant and conversions both ways.
macro_rules! string_enum {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$vdoc:meta])* $variant:ident = $word:literal,)*
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// All variants, in declaration order.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The string used by the API.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }

            /// Parses the API's string; any other is an error on `field` that lists the allowed
            /// strings.
            pub fn parse(field: &str, word: &str) -> Result<Self, $crate::Invalid> {
                Self::ALL.iter().copied().find(|value| value.as_str() == word).ok_or_else(|| {
                    let words: Vec<_> = Self::ALL.iter().map(|value| value.as_str()).collect();
                    $crate::Invalid::not_one_of(field, &words)
                })
            }
        }
    };
}
