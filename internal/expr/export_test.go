package expr

// TypeWord names a type of a signature, anyarray and its relatives included.
var TypeWord = typeWord
