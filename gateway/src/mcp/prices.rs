//! What calls of a server's tools cost, compiled.

use protocol::snapshot::ToolPrices;

use crate::{
    cost::Cost,
    table::{InvalidSnapshot, Pattern},
};

/// What calls of a server's tools cost.
#[derive(Debug)]
pub(super) struct Prices {
    per_call: Cost,
    tools: Vec<(Pattern, Cost)>,
}

impl Prices {
    /// The prices of a server of a route.
    ///
    /// # Errors
    /// [`InvalidSnapshot`] about a pattern.
    pub(super) fn compile(route: &str, prices: &ToolPrices) -> Result<Self, InvalidSnapshot> {
        let tools = prices.tools.iter().map(|tool| {
            let pattern = Pattern::parse(&tool.name).map_err(|invalid| invalid.of(route))?;
            Ok((pattern, Cost::from_nanos(tool.per_call_nanos)))
        });
        Ok(Self {
            per_call: Cost::from_nanos(prices.per_call_nanos),
            tools: tools.collect::<Result<_, _>>()?,
        })
    }

    /// What a call of a tool costs, by its name at the server.
    pub(super) fn of(&self, tool: &str) -> Cost {
        let mut own = self.tools.iter();
        let own = own.find(|(pattern, _)| pattern.matches(tool));
        own.map_or(self.per_call, |(_, price)| *price)
    }
}

#[cfg(test)]
mod tests {
    use protocol::snapshot::{ToolPrice, ToolPrices};

    use super::Prices;

    #[test]
    fn the_first_price_that_names_a_tool_decides() {
        let tool = |name: &str, per_call_nanos| ToolPrice {
            name: name.to_owned(),
            per_call_nanos,
        };
        let prices = Prices::compile(
            "ns/r",
            &ToolPrices {
                per_call_nanos: 1,
                tools: vec![
                    tool("search_web", 2),
                    tool("search_*", 3),
                    tool("*_free", 0),
                ],
            },
        )
        .unwrap();
        for (name, expected) in [
            ("search_web", 2),
            ("search_mail", 3),
            ("search_free", 3),
            ("look_free", 0),
            ("look", 1),
        ] {
            assert_eq!(prices.of(name).nanos(), expected, "{name}");
        }
    }
}
