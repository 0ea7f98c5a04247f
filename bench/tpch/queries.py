"""The 22 queries of TPC-H with kernelmill, with the parameters of the specification's validation run.

Each takes the eight tables by name and gives a frame with the columns of the SQL in `bench/tpch/sql.py`. A subquery
is a frame of its own: `exists` is a semi join, a correlated one a group-by that is joined, one of a single value a
cross join with one row. Amounts are decimals in the tables; what is computed of them is computed in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date

import kernelmill as km

Tables = Mapping[str, km.LazyFrame]
c = km.col


def number(name: str) -> km.Expr:
    """A decimal column as float64."""
    return c(name).cast("float64")


def discounted() -> km.Expr:
    """What a line costs after its discount."""
    return number("l_extendedprice") * (1 - number("l_discount"))


def nations_of(t: Tables, region: str) -> km.LazyFrame:
    """n_nationkey and n_name of the nations of a region."""
    wanted = t["region"].filter(r_name=region)
    nations = t["nation"].join(wanted, how="semi", left_on="n_regionkey", right_on="r_regionkey")
    return nations.select("n_nationkey", "n_name")


def q1(t: Tables) -> km.LazyFrame:
    """Pricing summary: what was shipped until 1998-09-02, by flag and status."""
    lines = t["lineitem"].filter(c("l_shipdate") <= date(1998, 9, 2))
    lines = lines.select(
        "l_returnflag",
        "l_linestatus",
        quantity=number("l_quantity"),
        price=number("l_extendedprice"),
        discount=number("l_discount"),
        tax=number("l_tax"),
    ).with_columns(reduced=c("price") * (1 - c("discount")))
    groups = lines.group_by("l_returnflag", "l_linestatus").agg(
        sum_qty=c("quantity").sum(),
        sum_base_price=c("price").sum(),
        sum_disc_price=c("reduced").sum(),
        sum_charge=(c("reduced") * (1 + c("tax"))).sum(),
        avg_qty=c("quantity").mean(),
        avg_price=c("price").mean(),
        avg_disc=c("discount").mean(),
        count_order=km.len(),
    )
    return groups.sort("l_returnflag", "l_linestatus")


def q2(t: Tables) -> km.LazyFrame:
    """Minimum cost supplier: who in Europe sells brass parts of size 15 at the least cost."""
    parts = t["part"].filter(c("p_size") == 15, c("p_type").str.ends_with("BRASS")).select("p_partkey", "p_mfgr")
    suppliers = t["supplier"].join(nations_of(t, "EUROPE"), left_on="s_nationkey", right_on="n_nationkey")
    offers = (
        t["partsupp"]
        .join(parts, left_on="ps_partkey", right_on="p_partkey")
        .join(suppliers, left_on="ps_suppkey", right_on="s_suppkey")
    )
    least = offers.group_by("ps_partkey").agg(least=c("ps_supplycost").min())
    cheapest = offers.join(least, "ps_partkey").filter(c("ps_supplycost") == c("least"))
    columns = "s_acctbal", "s_name", "n_name", "p_partkey", "p_mfgr", "s_address", "s_phone", "s_comment"
    ordered = cheapest.rename({"ps_partkey": "p_partkey"}).select(*columns)
    return ordered.sort("s_acctbal", "n_name", "s_name", "p_partkey", descending=[True, False, False, False]).head(100)


def q3(t: Tables) -> km.LazyFrame:
    """Shipping priority: the ten largest orders of the building segment that were not shipped by 1995-03-15."""
    day = date(1995, 3, 15)
    customers = t["customer"].filter(c_mktsegment="BUILDING")
    orders = t["orders"].filter(c("o_orderdate") < day)
    orders = orders.join(customers, how="semi", left_on="o_custkey", right_on="c_custkey")
    lines = t["lineitem"].filter(c("l_shipdate") > day).join(orders, left_on="l_orderkey", right_on="o_orderkey")
    revenue = lines.group_by("l_orderkey", "o_orderdate", "o_shippriority").agg(revenue=discounted().sum())
    largest = revenue.sort("revenue", "o_orderdate", descending=[True, False]).head(10)
    return largest.select("l_orderkey", "revenue", "o_orderdate", "o_shippriority")


def q4(t: Tables) -> km.LazyFrame:
    """Order priority checking: late orders of a quarter, by priority."""
    orders = t["orders"].filter(c("o_orderdate") >= date(1993, 7, 1), c("o_orderdate") < date(1993, 10, 1))
    late = t["lineitem"].filter(c("l_commitdate") < c("l_receiptdate"))
    found = orders.join(late, how="semi", left_on="o_orderkey", right_on="l_orderkey")
    return found.group_by("o_orderpriority").agg(order_count=km.len()).sort("o_orderpriority")


def q5(t: Tables) -> km.LazyFrame:
    """Local supplier volume: what Asia's nations sold to their own people in 1994."""
    orders = t["orders"].filter(c("o_orderdate") >= date(1994, 1, 1), c("o_orderdate") < date(1995, 1, 1))
    bought = orders.join(t["customer"], left_on="o_custkey", right_on="c_custkey").select("o_orderkey", "c_nationkey")
    suppliers = t["supplier"].join(nations_of(t, "ASIA"), left_on="s_nationkey", right_on="n_nationkey")
    local = (
        t["lineitem"]
        .join(suppliers, left_on="l_suppkey", right_on="s_suppkey")
        .join(bought, left_on=["l_orderkey", "s_nationkey"], right_on=["o_orderkey", "c_nationkey"])
    )
    return local.group_by("n_name").agg(revenue=discounted().sum()).sort("revenue", descending=True)


def q6(t: Tables) -> km.LazyFrame:
    """Forecasting revenue change: what small discounts of 1994 cost."""
    lines = t["lineitem"].filter(
        c("l_shipdate") >= date(1994, 1, 1),
        c("l_shipdate") < date(1995, 1, 1),
        c("l_discount").is_between(0.05, 0.07),
        c("l_quantity") < 24,
    )
    return lines.select(revenue=(number("l_extendedprice") * number("l_discount")).sum())


def q7(t: Tables) -> km.LazyFrame:
    """Volume shipping: what France and Germany sold to each other, by year."""
    two = t["nation"].filter(c("n_name").is_in(["FRANCE", "GERMANY"]))
    sellers, buyers = (two.select("n_nationkey", c("n_name").alias(name)) for name in ("supp_nation", "cust_nation"))
    suppliers = t["supplier"].join(sellers, left_on="s_nationkey", right_on="n_nationkey")
    customers = t["customer"].join(buyers, left_on="c_nationkey", right_on="n_nationkey")
    orders = t["orders"].join(customers, left_on="o_custkey", right_on="c_custkey")
    lines = t["lineitem"].filter(c("l_shipdate").is_between(date(1995, 1, 1), date(1996, 12, 31)))
    shipped = lines.join(suppliers, left_on="l_suppkey", right_on="s_suppkey")
    shipped = shipped.join(orders, left_on="l_orderkey", right_on="o_orderkey")
    shipped = shipped.filter(c("supp_nation") != c("cust_nation")).with_columns(l_year=c("l_shipdate").dt.year())
    groups = shipped.group_by("supp_nation", "cust_nation", "l_year").agg(revenue=discounted().sum())
    return groups.sort("supp_nation", "cust_nation", "l_year")


def q8(t: Tables) -> km.LazyFrame:
    """National market share: Brazil's share of a part type in America, by year."""
    parts = t["part"].filter(p_type="ECONOMY ANODIZED STEEL").select("p_partkey")
    customers = t["customer"].join(nations_of(t, "AMERICA"), how="semi", left_on="c_nationkey", right_on="n_nationkey")
    orders = t["orders"].filter(c("o_orderdate").is_between(date(1995, 1, 1), date(1996, 12, 31)))
    orders = orders.join(customers, how="semi", left_on="o_custkey", right_on="c_custkey")
    suppliers = t["supplier"].join(t["nation"], left_on="s_nationkey", right_on="n_nationkey")
    sold = (
        t["lineitem"]
        .join(parts, how="semi", left_on="l_partkey", right_on="p_partkey")
        .join(orders, left_on="l_orderkey", right_on="o_orderkey")
        .join(suppliers, left_on="l_suppkey", right_on="s_suppkey")
        .select(o_year=c("o_orderdate").dt.year(), volume=discounted(), nation=c("n_name"))
    )
    ours = c("volume").sum().filter(c("nation") == "BRAZIL")
    return sold.group_by("o_year").agg(mkt_share=ours / c("volume").sum()).sort("o_year")


def q9(t: Tables) -> km.LazyFrame:
    """Product type profit: of green parts, by nation and year."""
    parts = t["part"].filter(c("p_name").str.contains("green", literal=True)).select("p_partkey")
    suppliers = t["supplier"].join(t["nation"], left_on="s_nationkey", right_on="n_nationkey")
    costs = t["partsupp"].select("ps_partkey", "ps_suppkey", "ps_supplycost")
    sold = (
        t["lineitem"]
        .join(parts, how="semi", left_on="l_partkey", right_on="p_partkey")
        .join(costs, left_on=["l_partkey", "l_suppkey"], right_on=["ps_partkey", "ps_suppkey"])
        .join(suppliers, left_on="l_suppkey", right_on="s_suppkey")
        .join(t["orders"], left_on="l_orderkey", right_on="o_orderkey")
    )
    profit = discounted() - number("ps_supplycost") * number("l_quantity")
    sold = sold.select(nation=c("n_name"), o_year=c("o_orderdate").dt.year(), amount=profit)
    groups = sold.group_by("nation", "o_year").agg(sum_profit=c("amount").sum())
    return groups.sort("nation", "o_year", descending=[False, True])


def q10(t: Tables) -> km.LazyFrame:
    """Returned items: the twenty customers who sent most back."""
    orders = t["orders"].filter(c("o_orderdate") >= date(1993, 10, 1), c("o_orderdate") < date(1994, 1, 1))
    lines = t["lineitem"].filter(l_returnflag="R").join(orders, left_on="l_orderkey", right_on="o_orderkey")
    lost = lines.group_by("o_custkey").agg(revenue=discounted().sum())
    customers = t["customer"].join(t["nation"], left_on="c_nationkey", right_on="n_nationkey")
    found = customers.join(lost, left_on="c_custkey", right_on="o_custkey")
    columns = "c_custkey", "c_name", "revenue", "c_acctbal", "n_name", "c_address", "c_phone", "c_comment"
    return found.select(*columns).sort("revenue", descending=True).head(20)


def q11(t: Tables, scale: float = 1) -> km.LazyFrame:
    """Important stock: parts that are worth more than a share of all that Germany's suppliers hold."""
    nation = t["nation"].filter(n_name="GERMANY")
    suppliers = t["supplier"].join(nation, how="semi", left_on="s_nationkey", right_on="n_nationkey")
    stock = t["partsupp"].join(suppliers, how="semi", left_on="ps_suppkey", right_on="s_suppkey")
    stock = stock.select("ps_partkey", worth=number("ps_supplycost") * c("ps_availqty"))
    least = stock.select(least=c("worth").sum() * (0.0001 / scale))
    values = stock.group_by("ps_partkey").agg(value=c("worth").sum())
    found = values.join(least, how="cross").filter(c("value") > c("least"))
    return found.select("ps_partkey", "value").sort("value", descending=True)


def q12(t: Tables) -> km.LazyFrame:
    """Shipping modes: late lines of urgent and other orders that came by mail or ship in 1994."""
    lines = t["lineitem"].filter(
        c("l_shipmode").is_in(["MAIL", "SHIP"]),
        c("l_commitdate") < c("l_receiptdate"),
        c("l_shipdate") < c("l_commitdate"),
        c("l_receiptdate") >= date(1994, 1, 1),
        c("l_receiptdate") < date(1995, 1, 1),
    )
    urgent = c("o_orderpriority").is_in(["1-URGENT", "2-HIGH"])
    found = t["orders"].join(lines, left_on="o_orderkey", right_on="l_orderkey")
    counts = found.group_by("l_shipmode").agg(high_line_count=urgent.sum(), low_line_count=(~urgent).sum())
    return counts.sort("l_shipmode")


def q13(t: Tables) -> km.LazyFrame:
    """Customer distribution: how many customers have how many orders."""
    plain = t["orders"].filter(~c("o_comment").str.contains("special.*requests"))
    each = t["customer"].join(plain, how="left", left_on="c_custkey", right_on="o_custkey")
    counts = each.group_by("c_custkey").agg(c_count=c("o_orderkey").count())
    return counts.group_by("c_count").agg(custdist=km.len()).sort("custdist", "c_count", descending=True)


def q14(t: Tables) -> km.LazyFrame:
    """Promotion effect: the share of promoted parts in what a month brought."""
    lines = t["lineitem"].filter(c("l_shipdate") >= date(1995, 9, 1), c("l_shipdate") < date(1995, 10, 1))
    sold = lines.join(t["part"], left_on="l_partkey", right_on="p_partkey")
    sold = sold.select("p_type", revenue=discounted())
    promoted = c("revenue").sum().filter(c("p_type").str.starts_with("PROMO"))
    return sold.select(promo_revenue=100 * promoted / c("revenue").sum())


def q15(t: Tables) -> km.LazyFrame:
    """Top supplier: who brought most in a quarter."""
    lines = t["lineitem"].filter(c("l_shipdate") >= date(1996, 1, 1), c("l_shipdate") < date(1996, 4, 1))
    totals = lines.group_by("l_suppkey").agg(total_revenue=discounted().sum())
    best = totals.select(best=c("total_revenue").max())
    top = totals.join(best, how="cross").filter(c("total_revenue") == c("best"))
    found = t["supplier"].join(top, left_on="s_suppkey", right_on="l_suppkey")
    return found.select("s_suppkey", "s_name", "s_address", "s_phone", "total_revenue").sort("s_suppkey")


def q16(t: Tables) -> km.LazyFrame:
    """Parts and suppliers: how many suppliers without complaints sell parts of some kinds."""
    parts = t["part"].filter(
        c("p_brand") != "Brand#45",
        ~c("p_type").str.starts_with("MEDIUM POLISHED"),
        c("p_size").is_in([49, 14, 23, 45, 19, 3, 36, 9]),
    )
    complaints = t["supplier"].filter(c("s_comment").str.contains("Customer.*Complaints"))
    offers = t["partsupp"].join(parts, left_on="ps_partkey", right_on="p_partkey")
    offers = offers.join(complaints, how="anti", left_on="ps_suppkey", right_on="s_suppkey")
    counts = offers.group_by("p_brand", "p_type", "p_size").agg(supplier_cnt=c("ps_suppkey").n_unique())
    return counts.sort("supplier_cnt", "p_brand", "p_type", "p_size", descending=[True, False, False, False])


def q17(t: Tables) -> km.LazyFrame:
    """Small quantity orders: what a year would lose without orders of few pieces of some parts."""
    parts = t["part"].filter(p_brand="Brand#23", p_container="MED BOX").select("p_partkey")
    lines = t["lineitem"].join(parts, how="semi", left_on="l_partkey", right_on="p_partkey")
    lines = lines.select("l_partkey", quantity=number("l_quantity"), price=number("l_extendedprice"))
    usual = lines.group_by("l_partkey").agg(usual=c("quantity").mean())
    small = lines.join(usual, "l_partkey").filter(c("quantity") < 0.2 * c("usual"))
    return small.select(avg_yearly=c("price").sum() / 7)


def q18(t: Tables) -> km.LazyFrame:
    """Large volume customers: the orders of more than 300 pieces."""
    sums = t["lineitem"].group_by("l_orderkey").agg(quantity=number("l_quantity").sum())
    large = sums.filter(c("quantity") > 300)
    found = (
        t["orders"]
        .join(large, left_on="o_orderkey", right_on="l_orderkey")
        .join(t["customer"], left_on="o_custkey", right_on="c_custkey")
        .rename({"o_custkey": "c_custkey"})
    )
    columns = "c_name", "c_custkey", "o_orderkey", "o_orderdate", "o_totalprice", "quantity"
    return found.select(*columns).sort("o_totalprice", "o_orderdate", descending=[True, False]).head(100)


def q19(t: Tables) -> km.LazyFrame:
    """Discounted revenue: of three kinds of parts that came by air and were handed over in person."""
    lines = t["lineitem"].filter(c("l_shipmode").is_in(["AIR", "AIR REG"]), c("l_shipinstruct") == "DELIVER IN PERSON")
    sold = lines.join(t["part"], left_on="l_partkey", right_on="p_partkey")

    def kind(brand: str, size: str, containers: list[str], quantity: int, size_max: int) -> km.Expr:
        pieces = c("l_quantity").is_between(quantity, quantity + 10)
        packed = c("p_container").is_in([f"{size} {container}" for container in containers])
        return (c("p_brand") == brand) & packed & pieces & c("p_size").is_between(1, size_max)

    wanted = (
        kind("Brand#12", "SM", ["CASE", "BOX", "PACK", "PKG"], 1, 5)
        | kind("Brand#23", "MED", ["BAG", "BOX", "PKG", "PACK"], 10, 10)
        | kind("Brand#34", "LG", ["CASE", "BOX", "PACK", "PKG"], 20, 15)
    )
    return sold.filter(wanted).select(revenue=discounted().sum())


def q20(t: Tables) -> km.LazyFrame:
    """Potential part promotion: Canada's suppliers who hold more forest parts than half of what they sold in 1994."""
    parts = t["part"].filter(c("p_name").str.starts_with("forest")).select("p_partkey")
    lines = t["lineitem"].filter(c("l_shipdate") >= date(1994, 1, 1), c("l_shipdate") < date(1995, 1, 1))
    lines = lines.join(parts, how="semi", left_on="l_partkey", right_on="p_partkey")
    sold = lines.group_by("l_partkey", "l_suppkey").agg(half=0.5 * number("l_quantity").sum())
    stock = t["partsupp"].join(parts, how="semi", left_on="ps_partkey", right_on="p_partkey")
    stock = stock.join(sold, left_on=["ps_partkey", "ps_suppkey"], right_on=["l_partkey", "l_suppkey"])
    excess = stock.filter(c("ps_availqty") > c("half"))
    nation = t["nation"].filter(n_name="CANADA")
    suppliers = t["supplier"].join(nation, how="semi", left_on="s_nationkey", right_on="n_nationkey")
    found = suppliers.join(excess, how="semi", left_on="s_suppkey", right_on="ps_suppkey")
    return found.select("s_name", "s_address").sort("s_name")


def q21(t: Tables) -> km.LazyFrame:
    """Suppliers who kept orders waiting: Saudi Arabia's that alone were late in an order of several suppliers.

    Several suppliers have a part in an order where the least and the greatest of their keys differ, which needs no set
    of keys; a late one was the only late one where they do not.
    """
    late = c("l_receiptdate") > c("l_commitdate")
    supplier = c("l_suppkey")
    orders = (
        t["lineitem"]
        .group_by("l_orderkey")
        .agg(
            first=supplier.min(),
            last=supplier.max(),
            first_late=supplier.min().filter(late),
            last_late=supplier.max().filter(late),
            late_lines=supplier.count().filter(late),
        )
    )
    alone = orders.filter(c("first") != c("last"), c("first_late") == c("last_late"))
    alone = alone.select("l_orderkey", l_suppkey=c("first_late"), late_lines=c("late_lines"))
    nation = t["nation"].filter(n_name="SAUDI ARABIA")
    suppliers = t["supplier"].join(nation, how="semi", left_on="s_nationkey", right_on="n_nationkey")
    failed = t["orders"].filter(o_orderstatus="F").select("o_orderkey")
    waiting = alone.join(suppliers, left_on="l_suppkey", right_on="s_suppkey")
    waiting = waiting.join(failed, how="semi", left_on="l_orderkey", right_on="o_orderkey")
    counts = waiting.group_by("s_name").agg(numwait=c("late_lines").sum())
    return counts.sort("numwait", "s_name", descending=[True, False]).head(100)


def q22(t: Tables) -> km.LazyFrame:
    """Global sales opportunity: customers of some countries with money and without orders."""
    customers = t["customer"].select("c_custkey", cntrycode=c("c_phone").str.slice(0, 2), acctbal=number("c_acctbal"))
    customers = customers.filter(c("cntrycode").is_in(["13", "31", "23", "29", "30", "18", "17"]))
    usual = customers.filter(c("acctbal") > 0).select(usual=c("acctbal").mean())
    rich = customers.join(usual, how="cross").filter(c("acctbal") > c("usual"))
    idle = rich.join(t["orders"], how="anti", left_on="c_custkey", right_on="o_custkey")
    groups = idle.group_by("cntrycode").agg(numcust=km.len(), totacctbal=c("acctbal").sum())
    return groups.sort("cntrycode")


QUERIES: dict[str, Callable[[Tables], km.LazyFrame]] = {
    function.__name__: function
    for function in (
        *(q1, q2, q3, q4, q5, q6, q7, q8, q9, q10, q11),
        *(q12, q13, q14, q15, q16, q17, q18, q19, q20, q21, q22),
    )
}


def query(name: str, tables: Tables, scale: float) -> km.LazyFrame:
    """The frame of a query over these tables; only q11 asks for their scale."""
    return q11(tables, scale) if name == "q11" else QUERIES[name](tables)
