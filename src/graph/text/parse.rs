//! Text to graph.

use super::Position;
use super::lex::{Token, lex};
use crate::graph::{Graph, NodeId, Value, verify};
use crate::ops::{AttrReader, AttrValue, Constant, CustomOps, Input, Op, State, TensorType, Weight};
use crate::tensor::{Bounds, DType, Dim, Shape, Sym};
use std::collections::HashMap;

/// What is wrong in a text, and where.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{position}: {message}")]
pub struct ParseError {
    /// Where.
    pub position: Position,
    /// What is wrong and what was expected.
    pub message: String,
}

impl ParseError {
    pub(super) fn new(position: Position, message: impl Into<String>) -> ParseError {
        ParseError { position, message: message.into() }
    }
}

/// Reads a graph that has built-in ops only.
pub fn parse(text: &str) -> Result<Graph, ParseError> {
    parse_with(text, &CustomOps::default())
}

/// Reads a graph that may name the user's ops.
pub fn parse_with(text: &str, custom: &CustomOps) -> Result<Graph, ParseError> {
    let mut parser = Parser { tokens: lex(text)?, next: 0 };
    let (name, bounds) = parser.header()?;
    let mut statements = Vec::new();
    let mut outputs: Vec<(String, Reference)> = Vec::new();
    loop {
        match parser.peek() {
            Token::Mark("}") => break,
            Token::Word(w) if w == "output" => {
                let at = parser.position();
                let (name, reference) = parser.output()?;
                if outputs.iter().any(|(other, _)| *other == name) {
                    return Err(ParseError::new(at, format!("output \"{name}\" is already declared")));
                }
                outputs.push((name, reference));
            }
            Token::Word(_) => statements.push(parser.statement()?),
            _ => return Err(parser.unexpected("a statement such as `n3 = add(n1, n2)`, `output` or `}`")),
        }
    }
    parser.mark("}")?;
    if *parser.peek() != Token::End {
        return Err(parser.unexpected("the end of the text"));
    }
    let mut graph = Graph::new(name, bounds);
    let ids = define(&mut graph, &statements, custom)?;
    for (name, reference) in outputs {
        let value = resolve(&graph, &ids, &reference)?;
        graph.set_output(name, value);
    }
    verify(&graph).map_err(|e| {
        let at = e.node.and_then(|n| ids.iter().find(|(_, id)| **id == n)).map(|(name, _)| name.as_str());
        let at = at.and_then(|name| statements.iter().find(|s| s.name == name)).map(|s| s.position);
        ParseError::new(at.unwrap_or(Position { line: 1, column: 1 }), e.to_string())
    })?;
    Ok(graph)
}

struct Reference {
    name: String,
    out: u8,
    position: Position,
}

struct Statement {
    name: String,
    position: Position,
    label: Option<String>,
    op: String,
    op_position: Position,
    operands: Vec<Reference>,
    attrs: Vec<(String, AttrValue)>,
    types: Vec<TensorType>,
    type_position: Position,
}

/// Adds the statements in an order in which operands precede users.
fn define(
    graph: &mut Graph,
    statements: &[Statement],
    custom: &CustomOps,
) -> Result<HashMap<String, NodeId>, ParseError> {
    let mut by_name: HashMap<&str, usize> = HashMap::new();
    for (i, s) in statements.iter().enumerate() {
        if let Some(first) = by_name.insert(&s.name, i) {
            let first = statements[first].position;
            return Err(ParseError::new(s.position, format!("{} is already defined at {first}", s.name)));
        }
    }
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut marks = vec![Mark::New; statements.len()];
    let mut ids = HashMap::new();
    for root in 0..statements.len() {
        let mut stack = vec![(root, 0)];
        while let Some((i, operand)) = stack.pop() {
            let s = &statements[i];
            if marks[i] == Mark::Done {
                continue;
            }
            marks[i] = Mark::Open;
            if let Some(reference) = s.operands.get(operand) {
                stack.push((i, operand + 1));
                let &target = by_name.get(reference.name.as_str()).ok_or_else(|| {
                    ParseError::new(reference.position, format!("operand {} is not defined", reference.name))
                })?;
                match marks[target] {
                    Mark::New => stack.push((target, 0)),
                    Mark::Open => {
                        let through = if target == i { String::new() } else { format!(" through {}", reference.name) };
                        let message = format!("{} depends on its own result{through}: a cycle", s.name);
                        return Err(ParseError::new(reference.position, message));
                    }
                    Mark::Done => {}
                }
            } else {
                let id = add(graph, s, &ids, custom)?;
                ids.insert(s.name.clone(), id);
                marks[i] = Mark::Done;
            }
        }
    }
    Ok(ids)
}

fn add(
    graph: &mut Graph,
    s: &Statement,
    ids: &HashMap<String, NodeId>,
    custom: &CustomOps,
) -> Result<NodeId, ParseError> {
    let operands = s.operands.iter().map(|r| resolve(graph, ids, r)).collect::<Result<Vec<_>, _>>()?;
    let op = make_op(s, custom)?;
    let id = graph.add(op, &operands, s.label.as_deref()).map_err(|e| ParseError::new(s.op_position, e.to_string()))?;
    let inferred = &graph.node(id).types;
    if !s.types.is_empty() && inferred.as_slice() != s.types.as_slice() {
        let list = |types: &[TensorType]| types.iter().map(|t| t.to_string()).collect::<Vec<_>>().join(", ");
        let message = format!("{} has type {}, not {}", s.name, list(inferred), list(&s.types));
        return Err(ParseError::new(s.type_position, message));
    }
    Ok(id)
}

fn make_op(s: &Statement, custom: &CustomOps) -> Result<Op, ParseError> {
    let mut reader = AttrReader::new(s.attrs.clone());
    let op = match s.op.as_str() {
        "input" | "weight" | "state" => {
            let [ty] = s.types.as_slice() else {
                let message = format!("`{}` needs one type, as in `n0 \"x\" = {} : f32[64, T]`", s.op, s.op);
                return Err(ParseError::new(s.type_position, message));
            };
            let ty = ty.clone();
            match s.op.as_str() {
                "input" => Input { ty }.into(),
                "weight" => Weight { ty }.into(),
                _ => State { ty }.into(),
            }
        }
        name => match Op::from_attrs(name, &mut reader) {
            Some(op) => op.map_err(|e| ParseError::new(s.op_position, format!("{name}: {e}")))?,
            None => match custom.get(name) {
                Some(op) => Op::Custom(op.clone()),
                None => {
                    let message = format!("unknown op `{name}`{}", suggestion(name));
                    return Err(ParseError::new(s.op_position, message));
                }
            },
        },
    };
    if let Op::Constant(Constant { value, .. }) = &op
        && value.is_nan()
    {
        return Err(ParseError::new(s.op_position, "constant: NaN is no value of a constant"));
    }
    reader.finish().map_err(|e| ParseError::new(s.op_position, format!("{}: {e}", s.op)))?;
    Ok(op)
}

fn suggestion(name: &str) -> String {
    let close = Op::NAMES.iter().map(|n| (distance(name, n), n)).min();
    match close {
        Some((d, n)) if d <= 2 => format!("; did you mean `{n}`?"),
        _ => format!("; there are {}", Op::NAMES.join(", ")),
    }
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let cost = (diagonal + usize::from(ca != *cb)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = row[j + 1];
            row[j + 1] = cost;
        }
    }
    row[b.len()]
}

fn resolve(graph: &Graph, ids: &HashMap<String, NodeId>, reference: &Reference) -> Result<Value, ParseError> {
    let Some(&node) = ids.get(&reference.name) else {
        return Err(ParseError::new(reference.position, format!("operand {} is not defined", reference.name)));
    };
    let results = graph.node(node).types.len();
    if reference.out as usize >= results {
        let has = if results == 1 { "1 result".to_string() } else { format!("{results} results") };
        let message = format!("{} has {has}, there is no result {}", reference.name, reference.out);
        return Err(ParseError::new(reference.position, message));
    }
    Ok(Value { node, out: reference.out })
}

struct Parser {
    tokens: Vec<(Token, Position)>,
    next: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.next].0
    }

    fn position(&self) -> Position {
        self.tokens[self.next].1
    }

    fn take(&mut self) -> (Token, Position) {
        let token = self.tokens[self.next].clone();
        self.next = (self.next + 1).min(self.tokens.len() - 1);
        token
    }

    fn unexpected(&self, expected: &str) -> ParseError {
        ParseError::new(self.position(), format!("found {}, expected {expected}", self.peek()))
    }

    fn mark(&mut self, mark: &'static str) -> Result<(), ParseError> {
        if !self.at(mark) {
            return Err(self.unexpected(&format!("`{mark}`")));
        }
        self.take();
        Ok(())
    }

    fn at(&self, mark: &str) -> bool {
        matches!(self.peek(), Token::Mark(m) if *m == mark)
    }

    fn word(&mut self, expected: &str) -> Result<(String, Position), ParseError> {
        if !matches!(self.peek(), Token::Word(_)) {
            return Err(self.unexpected(expected));
        }
        match self.take() {
            (Token::Word(w), at) => Ok((w, at)),
            _ => Err(self.unexpected(expected)),
        }
    }

    fn text(&mut self, expected: &str) -> Result<String, ParseError> {
        match self.peek().clone() {
            Token::Text(t) => {
                self.take();
                Ok(t)
            }
            _ => Err(self.unexpected(expected)),
        }
    }

    fn header(&mut self) -> Result<(String, Bounds), ParseError> {
        let (word, at) = self.word("`graph`")?;
        if word != "graph" {
            return Err(ParseError::new(
                at,
                format!("found `{word}`, expected `graph \"name\" (T <= …, S <= …, R <= …) {{`"),
            ));
        }
        let name = self.text("the graph's name in quotes")?;
        let mut bounds = Bounds { t: 1, s: 1, r: 1 };
        if self.at("(") {
            self.take();
            while !self.at(")") {
                let (symbol, at) = self.word("T, S or R")?;
                self.mark("<=")?;
                let value = match self.peek() {
                    Token::Int(n) if (1..=1 << 40).contains(n) => *n as usize,
                    _ => return Err(self.unexpected("a bound of at least 1")),
                };
                self.take();
                match symbol.as_str() {
                    "T" => bounds.t = value,
                    "S" => bounds.s = value,
                    "R" => bounds.r = value,
                    _ => return Err(ParseError::new(at, format!("unknown symbol `{symbol}`, expected T, S or R"))),
                }
                if self.at(",") {
                    self.take();
                } else if !self.at(")") {
                    return Err(self.unexpected("`,` or `)`"));
                }
            }
            self.take();
        }
        self.mark("{")?;
        Ok((name, bounds))
    }

    fn output(&mut self) -> Result<(String, Reference), ParseError> {
        self.take();
        let name = self.text("the output's name in quotes")?;
        self.mark("=")?;
        Ok((name, self.reference()?))
    }

    fn reference(&mut self) -> Result<Reference, ParseError> {
        let (name, position) = self.word("a value such as `n3`")?;
        let mut out = 0;
        if self.at(".") {
            self.take();
            out = match self.peek() {
                Token::Int(n @ 0..=255) => *n as u8,
                _ => return Err(self.unexpected("the number of a result")),
            };
            self.take();
        }
        Ok(Reference { name, out, position })
    }

    fn statement(&mut self) -> Result<Statement, ParseError> {
        let (name, position) = self.word("an id such as `n3`")?;
        let label = match self.peek() {
            Token::Text(_) => Some(self.text("a label")?),
            _ => None,
        };
        self.mark("=")?;
        let (op, op_position) = self.word("an op")?;
        let mut operands = Vec::new();
        if self.at("(") {
            self.take();
            while !self.at(")") {
                operands.push(self.reference()?);
                if self.at(",") {
                    self.take();
                } else if !self.at(")") {
                    return Err(self.unexpected("`,` or `)`"));
                }
            }
            self.take();
        }
        if operands.len() > 64 {
            return Err(ParseError::new(op_position, format!("{} operands, at most 64 are possible", operands.len())));
        }
        let attrs = if self.at("{") { self.attrs()? } else { Vec::new() };
        let type_position = self.tokens[(self.next + usize::from(self.at(":"))).min(self.tokens.len() - 1)].1;
        let types = if self.at(":") { self.types()? } else { Vec::new() };
        Ok(Statement { name, position, label, op, op_position, operands, attrs, types, type_position })
    }

    fn attrs(&mut self) -> Result<Vec<(String, AttrValue)>, ParseError> {
        let mut attrs: Vec<(String, AttrValue)> = Vec::new();
        self.mark("{")?;
        while !self.at("}") {
            let (name, at) = self.word("an attribute")?;
            if attrs.iter().any(|(n, _)| *n == name) {
                return Err(ParseError::new(at, format!("attribute `{name}` is given twice")));
            }
            self.mark("=")?;
            attrs.push((name, self.attr_value(0)?));
            if self.at(",") {
                self.take();
            } else if !self.at("}") {
                return Err(self.unexpected("`,` or `}`"));
            }
        }
        self.take();
        Ok(attrs)
    }

    fn attr_value(&mut self, depth: usize) -> Result<AttrValue, ParseError> {
        match self.peek().clone() {
            Token::Int(n) => {
                self.take();
                Ok(AttrValue::Int(n))
            }
            Token::Float(x) => {
                self.take();
                Ok(AttrValue::Float(x))
            }
            Token::Word(w) => {
                self.take();
                Ok(AttrValue::Word(w))
            }
            Token::Mark("[") if depth < 4 => {
                self.take();
                let mut items = Vec::new();
                while !self.at("]") {
                    items.push(self.attr_value(depth + 1)?);
                    if self.at(",") {
                        self.take();
                    } else if !self.at("]") {
                        return Err(self.unexpected("`,` or `]`"));
                    }
                }
                self.take();
                Ok(AttrValue::List(items))
            }
            _ => Err(self.unexpected("a number, a word or a list")),
        }
    }

    fn types(&mut self) -> Result<Vec<TensorType>, ParseError> {
        self.mark(":")?;
        if !self.at("(") {
            return Ok(vec![self.ty()?]);
        }
        self.take();
        let mut types = Vec::new();
        while !self.at(")") {
            types.push(self.ty()?);
            if self.at(",") {
                self.take();
            } else if !self.at(")") {
                return Err(self.unexpected("`,` or `)`"));
            }
        }
        self.take();
        Ok(types)
    }

    fn ty(&mut self) -> Result<TensorType, ParseError> {
        let (word, at) = self.word("an element type such as f32")?;
        let dtype = DType::from_name(&word).ok_or_else(|| {
            let known: Vec<_> = DType::ALL.iter().map(|t| t.name()).collect();
            ParseError::new(at, format!("unknown element type `{word}`; there are {}", known.join(", ")))
        })?;
        self.mark("[")?;
        let mut dims: Vec<Dim> = Vec::new();
        while !self.at("]") {
            let dim = match self.peek() {
                Token::Int(n) if (0..=1 << 40).contains(n) => Dim::Fixed(*n as usize),
                Token::Word(w) => match Sym::ALL.into_iter().find(|s| s.to_string() == *w) {
                    Some(s) => Dim::Sym(s),
                    None => return Err(self.unexpected("a size: a whole number, T, S or R")),
                },
                _ => return Err(self.unexpected("a size: a whole number, T, S or R")),
            };
            self.take();
            dims.push(dim);
            if self.at(",") {
                self.take();
            } else if !self.at("]") {
                return Err(self.unexpected("`,` or `]`"));
            }
        }
        if dims.is_empty() || dims.len() > Shape::MAX_DIMS {
            return Err(ParseError::new(at, format!("a shape has one to four sizes, found {}", dims.len())));
        }
        if let (Dim::Fixed(row), block @ 2..) = (dims[0], dtype.block_len())
            && row % block != 0
        {
            let message = format!("rows of {dtype} are whole blocks of {block} elements, found {row}");
            return Err(ParseError::new(at, message));
        }
        self.take();
        Ok(TensorType::new(dtype, Shape::new(&dims)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::text::print;

    const MLP: &str = r#"graph "mlp" (T <= 512, S <= 4096, R <= 512) {
  n0 "x" = input : f32[64, T]
  n1 "w" = weight : q8_0[64, 128]
  n2 = dequantize(n1) : f32[64, 128]
  n3 "up" = matmul(n2, n0) : f32[128, T]
  n4 = unary(n3) {kind=silu} : f32[128, T]
  n5 "norm" = weight : f32[128]
  n6 = add_rms_norm_mul(n4, n3, n5) {eps=1e-5} : (f32[128, T], f32[128, T])
  n7 = reshape(n6.1) {shape=[32, 4, T]} : f32[32, 4, T]
  output "y" = n7
}
"#;

    #[test]
    fn text_goes_around() {
        let graph = parse(MLP).unwrap();
        assert_eq!(print(&graph), MLP);
    }

    #[test]
    fn statements_may_stand_in_any_order_and_types_may_be_left_out() {
        let text = r#"graph "g" (T <= 4) { output "y" = b  b = scale(a) {factor=2} a "x" = input : f32[8, T] }"#;
        let graph = parse(text).unwrap();
        assert_eq!(graph.len(), 2);
    }

    fn error(body: &str) -> String {
        parse(&format!("graph \"g\" (T <= 4) {{\n{body}\n}}")).unwrap_err().to_string()
    }

    #[test]
    fn errors_name_place_and_expectation() {
        let x = "n0 \"x\" = input : f32[8, T]\n";
        for (body, expected) in [
            ("n1 = scale(n0) {factor=2}", "2:12: operand n0 is not defined"),
            (&format!("{x}n1 = scal(n0)"), "3:6: unknown op `scal`; did you mean `scale`?"),
            (&format!("{x}n1 = scale(n0)"), "3:6: scale: attribute `factor` is missing"),
            (&format!("{x}n1 = scale(n0) {{factor=[1]}}"), "attribute `factor` is `[1]`, expected a number"),
            (&format!("{x}n1 = scale(n0) {{factor=1, eps=2}}"), "unknown attribute `eps`; this op has factor"),
            (&format!("{x}n1 = scale(n0) {{factor=1.0}} : f32[9, T]"), "3:31: n1 has type f32[8, T], not f32[9, T]"),
            (
                &format!("{x}n1 = add(n0, n2)\nn2 = add(n0, n1)"),
                "4:14: n2 depends on its own result through n1: a cycle",
            ),
            (&format!("{x}n1 = add(n0)"), "takes (a, b), found 1 operand"),
            (&format!("{x}n1 = add(n0, n0.1)"), "3:14: n0 has 1 result, there is no result 1"),
            (&format!("{x}n1 = add(n0, n1)"), "3:14: n1 depends on its own result: a cycle"),
            (&format!("{x}{x}"), "n0 is already defined at 2:1"),
            (&format!("{x}output \"y\" = n0\noutput \"y\" = n0"), "4:1: output \"y\" is already declared"),
            ("n0 = input : f32[8, Q]", "2:21: found `Q`, expected a size"),
            ("n0 = input : f33[8]", "2:14: unknown element type `f33`"),
            ("n0 = input", "`input` needs one type"),
            ("n0 = input : f32[8]", "it needs a label by which it is bound"),
            ("n0 \"x = input : f32[8]", "this string does not end"),
            ("?", "unexpected character '?'"),
            ("n0 \"x\" = input : q8_0[33, T]", "2:18: rows of q8_0 are whole blocks of 32 elements, found 33"),
        ] {
            let found = error(body);
            assert!(found.contains(expected), "{body}\n  gave: {found}\n  expected: {expected}");
        }
    }
}
