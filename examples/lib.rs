//! Examples of `matrix-analytics`: see the `[[example]]` targets of this package.
