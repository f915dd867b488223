/// Indexes the texts of a collection anew, with another tokenizer.
#[derive(Debug, Clone)]
pub struct SetTokenizer {
    pub collection: String,
    pub tokenizer: String,
}
