//! What results are about, so that those can be found which an invalidation means.

use crate::ids::TenantId;

/// Separates facets. Names of strategies, exchanges and symbols do not have it.
const SEPARATOR: char = '\u{1f}';

/// What a result is about, for invalidations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facets(String);

impl Facets {
    /// The facets of a result of these strategies on these symbols of an exchange. The scripts add the tenant that it was
    /// computed for first.
    pub fn new<'a>(
        exchange: &str,
        symbols: impl IntoIterator<Item = &'a str>,
        strategies: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let mut text = String::from(SEPARATOR);
        let symbols = symbols.into_iter().map(|symbol| facet("symbol", symbol));
        let strategies = strategies.into_iter().map(|strategy| facet("strategy", strategy));
        for facet in std::iter::once(facet("exchange", exchange)).chain(symbols).chain(strategies) {
            text.push_str(&facet);
            text.push(SEPARATOR);
        }
        Self(text)
    }

    pub(crate) fn as_text(&self) -> &str {
        if self.0.is_empty() { "\u{1f}" } else { &self.0 }
    }
}

/// A facet is part of a record's first line and must stay one facet whatever it is made of.
fn facet(name: &str, value: &str) -> String {
    let value: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("{name}={value}")
}

/// Which results an invalidation means: those that have everything that is named; all of them, if nothing is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    /// One of the strategies that ran.
    pub strategy: Option<String>,
    /// One of the symbols that was traded or read.
    pub symbol: Option<String>,
    /// The exchange.
    pub exchange: Option<String>,
    /// The tenant that it was computed for first. Others may have used it since.
    pub tenant: Option<TenantId>,
}

impl Selector {
    pub(crate) fn to_text(&self) -> String {
        let Self { strategy, symbol, exchange, tenant } = self;
        let tenant = tenant.as_ref().map(|tenant| tenant.as_str().to_owned());
        let named = [("exchange", exchange), ("strategy", strategy), ("symbol", symbol), ("tenant", &tenant)];
        let facets = named.into_iter().filter_map(|(name, value)| Some(facet(name, value.as_ref()?)));
        facets.collect::<Vec<_>>().join(&SEPARATOR.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facets_stay_apart_whatever_they_are_made_of() {
        let facets = Facets::new("Binance Spot", ["BTC-USDT", "a\u{1f}tenant=x\n"], ["Sma"]);
        let expected = "\u{1f}exchange=Binance Spot\u{1f}symbol=BTC-USDT\u{1f}symbol=a tenant=x \u{1f}strategy=Sma\u{1f}";
        assert_eq!(facets.as_text(), expected);
        let selector = Selector {
            strategy: Some("Sma".into()),
            tenant: Some(TenantId::new("t")),
            ..Selector::default()
        };
        assert_eq!(selector.to_text(), "strategy=Sma\u{1f}tenant=t");
        assert_eq!(Selector::default().to_text(), "");
    }
}
