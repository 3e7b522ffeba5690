"""Header sets with rows: what the columns of a file are taken for, or which question is asked."""

ROWS = 24
TEXT = [f"the {word} of it was {word} enough for us" for word in map(chr, range(97, 97 + ROWS))]
OTHER = [f"and yet {word} times nobody came to {word}" for word in map(chr, range(97, 97 + ROWS))]
TITLE = [f"A {word} tale" for word in map(chr, range(97, 97 + ROWS))]
NUMBER = [str(row) for row in range(ROWS)]
CODE = [f"B00{row * 7919:x}Q" for row in range(ROWS)]
DATE = [f"2015-02-{row + 1:02} 11:35:52 -0800" for row in range(ROWS)]
LONG_DATE = [f"Tue Feb {row + 1:02} 2015 11:35:52 GMT+0000" for row in range(ROWS)]
LINK = [f"https://news.invalid/2015/stories/{code}.html" for code in CODE]
ONE = ["NO_QUERY"] * ROWS
EMPTY = [""] * ROWS


def cycle(*values):
    return [values[row % len(values)] for row in range(ROWS)]


SENTIMENT, BINARY, STARS = cycle("negative", "positive"), cycle("0", "1"), cycle("1", "3", "5")
ARTICLE = [
    f"{first}, while {second}, as we heard" for first, second in zip(TEXT, OTHER, strict=True)
]
HALF_EMPTY = [text if row % 3 == 0 else "" for row, text in enumerate(TEXT)]
SHORT = [f"{word} fails" for word in "abcdefghijkl" * 2]
LONG_REPEATED = [f"Re: your order number {row % 3} of last week" for row in range(ROWS)]
USERS = [f"user {row // 2}" for row in range(ROWS - 3)] + ["a", "b", "c"]
FRACTIONS = [f"{row * 1.37:.2f}" for row in range(ROWS)]


FOUND = {
    "IMDb": ({"review": TEXT, "sentiment": SENTIMENT}, "review", "sentiment"),
    "hub default": ({"text": TEXT, "label": BINARY}, "text", "label"),
    "Yelp": (
        {"review_id": CODE, "user_id": CODE, "stars": STARS, "date": DATE, "text": TEXT}
        | {"useful": cycle("0", "1", "2"), "funny": BINARY, "cool": BINARY},
        "text",
        "stars",
    ),
    "SMS spam": (
        {"v1": cycle("ham", "spam"), "v2": TEXT, "Unnamed: 2": EMPTY, "Unnamed: 3": EMPTY},
        "v2",
        "v1",
    ),
    "spam mails": (
        {"": NUMBER, "label": cycle("ham", "spam"), "text": TEXT, "label_num": BINARY},
        "text",
        "label",
    ),
    "spam messages": ({"Category": cycle("ham", "spam"), "Message": TEXT}, "Message", "Category"),
    "Quora questions": (
        {"id": NUMBER, "qid1": NUMBER, "qid2": NUMBER}
        | {"question1": TEXT, "question2": OTHER, "is_duplicate": BINARY},
        ("question1", "question2"),
        "is_duplicate",
    ),
    "SNLI": (
        {"gold_label": cycle("entailment", "neutral", "contradiction")}
        | {"sentence1_binary_parse": TEXT, "sentence2_binary_parse": OTHER}
        | {"sentence1": TEXT, "sentence2": OTHER, "captionID": CODE, "pairID": CODE}
        | {"label1": cycle("neutral", "entailment"), "label2": EMPTY},
        ("sentence1", "sentence2"),
        "gold_label",
    ),
    "MNLI on the hub": (
        {"premise": TEXT, "hypothesis": OTHER, "label": STARS, "idx": NUMBER},
        ("premise", "hypothesis"),
        "label",
    ),
    "QNLI": (
        {"index": NUMBER, "question": TEXT, "sentence": OTHER, "label": SENTIMENT},
        ("question", "sentence"),
        "label",
    ),
    "BoolQ": (
        {"question": TEXT, "passage": OTHER, "answer": cycle("True", "False")},
        ("question", "passage"),
        "answer",
    ),
    "STS-B": (
        {"genre": ONE, "filename": ONE, "year": ONE, "score": cycle("1.0", "2.4")}
        | {"sentence1": TEXT, "sentence2": OTHER},
        ("sentence1", "sentence2"),
        "score",
    ),
    "MRPC": (
        {
            "Quality": BINARY,
            "#1 ID": NUMBER,
            "#2 ID": NUMBER,
            "#1 String": TEXT,
            "#2 String": OTHER,
        },
        ("#1 String", "#2 String"),
        "Quality",
    ),
    "Amazon, US reviews": (
        {"marketplace": ONE, "product_id": CODE, "star_rating": STARS, "review_body": TEXT}
        | {"vine": cycle("N", "Y"), "review_date": DATE},
        "review_body",
        "star_rating",
    ),
    "banking77": ({"text": TEXT, "category": cycle("card_arrival", "top_up")}, "text", "category"),
    "CLINC": ({"utterance": TEXT, "intent": cycle("travel", "meal")}, "utterance", "intent"),
    "tweets of airlines": (
        {"tweet_id": NUMBER, "airline_sentiment": SENTIMENT}
        | {"airline_sentiment_confidence": cycle("1.0", "0.6"), "airline": cycle("Us", "Them")}
        | {"name": CODE, "text": TEXT, "tweet_created": DATE, "user_timezone": cycle("A", "B")},
        "text",
        "airline_sentiment",
    ),
    "Sentiment140": (
        {"target": cycle("0", "4"), "ids": NUMBER, "date": LONG_DATE, "flag": ONE}
        | {"user": CODE, "text": TEXT},
        "text",
        "target",
    ),
    "disaster tweets": (
        {"id": NUMBER, "keyword": cycle("fire", "flood"), "location": EMPTY}
        | {"text": TEXT, "target": BINARY},
        "text",
        "target",
    ),
    "tweets on the virus": (
        {"UserName": NUMBER, "ScreenName": NUMBER, "TweetAt": cycle("16-03-2020", "17-03-2020")}
        | {"OriginalTweet": TEXT, "Sentiment": SENTIMENT},
        "OriginalTweet",
        "Sentiment",
    ),
    "hate speech": (
        {"": NUMBER, "count": STARS, "hate_speech": BINARY, "class": STARS, "tweet": TEXT},
        "tweet",
        "class",
    ),
    "Rotten Tomatoes phrases": (
        {"PhraseId": NUMBER, "SentenceId": NUMBER, "Phrase": TEXT, "Sentiment": STARS},
        "Phrase",
        "Sentiment",
    ),
    "drug reviews": (
        {"uniqueID": NUMBER, "drugName": CODE, "condition": cycle("Pain", "Acne")}
        | {"review": TEXT, "rating": STARS, "date": DATE, "usefulCount": NUMBER},
        "review",
        "rating",
    ),
    "consumer complaints": (
        {"Date received": DATE, "Consumer complaint narrative": TEXT}
        | {"Complaint ID": NUMBER, "category": cycle("Mortgage", "Card")},
        "Consumer complaint narrative",
        "category",
    ),
    "movie comments in Korean": (
        {"id": NUMBER, "document": [f"정말 재미있는 영화 {n}" for n in NUMBER], "label": BINARY},
        "document",
        "label",
    ),
    "toxic comments, one label named": (
        {"id": CODE, "comment_text": TEXT, "is_toxic": BINARY},
        "comment_text",
        "is_toxic",
    ),
    "no known name at all": (
        {
            "uuid": CODE,
            "when": LONG_DATE,
            "where": LINK,
            "was sie sagten": TEXT,
            "urteil": SENTIMENT,
        },
        "was sie sagten",
        "urteil",
    ),
    "a label beside a score": (
        {"text": TEXT, "label": SENTIMENT, "score": cycle("0.9", "0.8")},
        "text",
        "label",
    ),
    # The content contradicts a known name.
    "a question asked of everybody": (
        {"question": ONE, "reply": TEXT, "code": SENTIMENT},
        "reply",
        "code",
    ),
    "a subject of few values": (
        {"Subject": cycle("Re: order", "Re: offer"), "Ticket Text": TEXT, "Queue": SENTIMENT},
        "Ticket Text",
        "Queue",
    ),
    "few subjects, each long": (
        {"Subject": LONG_REPEATED, "Ticket Text": TEXT, "Queue": SENTIMENT},
        "Ticket Text",
        "Queue",
    ),
    "a title and a body that is mostly empty": (
        {"title": TEXT, "body": HALF_EMPTY, "label": BINARY},
        "title",
        "label",
    ),
    "a title that is mostly empty": (
        {"title": HALF_EMPTY, "body": TEXT, "label": BINARY},
        "body",
        "label",
    ),
    "a text of few values and a review": (
        {"text": cycle("n/a", "see review"), "review": TEXT, "rating": STARS},
        "review",
        "rating",
    ),
    "tags that are mostly empty": (
        {"Product": cycle("Card", "Loan"), "Consumer complaint narrative": TEXT}
        | {"Tags": ["Older American" if row % 3 == 0 else "" for row in range(ROWS)]}
        | {"Company": ONE},
        "Consumer complaint narrative",
        "Product",
    ),
    "tags that are unique": (
        {"Id": NUMBER, "Body": TEXT, "Tags": CODE, "Y": SENTIMENT},
        "Body",
        "Y",
    ),
    "a topic that is a text": (
        {"comment": TEXT, "topic": OTHER, "verdict": SENTIMENT},
        "comment",
        "verdict",
    ),
    "a category without a value": (
        {"comment": TEXT, "category": EMPTY, "verdict": SENTIMENT},
        "comment",
        "verdict",
    ),
    # It does not.
    "a text beside a shorter selection of it": (
        {"textID": CODE, "text": TEXT, "selected_text": OTHER, "sentiment": SENTIMENT},
        "text",
        "sentiment",
    ),
    "a title alone": ({"title": TITLE, "category": SENTIMENT}, "title", "category"),
    "a review beside its product": (
        {"product name": TITLE, "review_body": TEXT, "star_rating": STARS},
        "review_body",
        "star_rating",
    ),
    "a pair beside a long text": (
        {"premise": TEXT, "hypothesis": OTHER, "premise_parse": ARTICLE, "label": BINARY},
        ("premise", "hypothesis"),
        "label",
    ),
    "toy rows: a text of two values": (
        {"text": cycle("good", "bad"), "label": BINARY},
        "text",
        "label",
    ),
    "German names": ({"Kommentar": TEXT, "Kategorie": SENTIMENT}, "Kommentar", "Kategorie"),
    "Korean names": (
        {"리뷰": [f"정말 재미있는 영화 {n} 다시 보고 싶다" for n in NUMBER], "평점": BINARY},
        "리뷰",
        "평점",
    ),
    "the language to be recognized": (
        {"sentence": TEXT, "language": SENTIMENT},
        "sentence",
        "language",
    ),
    "targets with fractions": ({"essay": TEXT, "score": FRACTIONS}, "essay", "score"),
    "a label of one value": ({"text": TEXT, "label": ONE, "verdict": SENTIMENT}, "text", "label"),
    "names in capitals with spaces": (
        {"REVIEW TEXT": TEXT, "STAR RATING": STARS, "UPDATED AT": DATE},
        "REVIEW TEXT",
        "STAR RATING",
    ),
}
"""Name -> columns, the text column or columns, the label column."""

AMBIGUOUS = {
    "AG News": (
        {"Class Index": STARS, "Title": TITLE, "Description": TEXT},
        ("Title", "Description"),
        (),
    ),
    "Amazon, summary and text": (
        {"Id": NUMBER, "Score": STARS, "Time": NUMBER, "Summary": TITLE, "Text": TEXT},
        ("Summary", "Text"),
        (),
    ),
    "fake news": (
        {"id": NUMBER, "title": TITLE, "author": CODE, "text": TEXT, "label": BINARY},
        ("title", "text"),
        (),
    ),
    "TREC": (
        {"text": TEXT, "coarse_label": STARS, "fine_label": STARS},
        (),
        ("coarse_label", "fine_label"),
    ),
    "stance": (
        {"ID": NUMBER, "Target": SENTIMENT, "Tweet": TEXT, "Stance": SENTIMENT},
        (),
        ("Target", "Stance"),
    ),
    "two kinds of toxic comments": (
        {"id": CODE, "comment_text": TEXT, "toxic": BINARY, "obscene": BINARY},
        (),
        ("toxic", "obscene"),
    ),
    "two pairs": (
        {"question": TEXT, "sentence": OTHER, "answer": TEXT, "label": BINARY},
        ("question", "sentence", "answer"),
        (),
    ),
    "two unknown texts": (
        {"left": TEXT, "right": OTHER, "label": BINARY},
        ("left", "right"),
        (),
    ),
    "names that differ by case": (
        {"text": TEXT, "Text": OTHER, "label": BINARY},
        ("text", "Text"),
        (),
    ),
    "Stack Overflow": (
        {"Id": NUMBER, "Title": TITLE, "Body": TEXT, "Tags": CODE, "Y": SENTIMENT},
        ("Title", "Body"),
        (),
    ),
    "a headline and an unknown article": (
        {"headline": TITLE, "full_article": ARTICLE, "section": SENTIMENT},
        ("headline", "full_article"),
        (),
    ),
    "a long headline and an unknown article": (
        {"headline": TEXT, "full_article": OTHER, "section": SENTIMENT},
        ("headline", "full_article"),
        (),
    ),
    "movies: text and label together": (
        {"Release Year": cycle("1950", "1951", "1952"), "Title": TITLE, "Origin": SENTIMENT}
        | {"Director": USERS, "Genre": cycle("drama", "comedy"), "Wiki Page": LINK, "Plot": TEXT},
        ("Title", "Plot"),
        ("Origin", "Genre", "Release Year"),
    ),
    "bug reports": (
        {"Summary": SHORT, "Steps to reproduce": ARTICLE, "Component": SENTIMENT},
        ("Summary", "Steps to reproduce"),
        (),
    ),
    "a comment beside a text of twice its length": (
        {"comment": OTHER, "thread": [text * 3 for text in TEXT], "verdict": SENTIMENT},
        ("comment", "thread"),
        (),
    ),
    "a question for everybody, and short replies": (
        {"question": ONE, "reply": TITLE, "code": SENTIMENT},
        ("question", "reply"),
        (),
    ),
    "a premise of few values": (
        {"premise": cycle("a long premise", "another one"), "hypothesis": TEXT, "label": BINARY},
        ("premise", "hypothesis"),
        (),
    ),
    "a name known for texts and one known for titles": (
        {"query": TEXT, "body": OTHER, "label": BINARY},
        ("query", "body"),
        (),
    ),
    "two columns of few values": (
        {"comment": TEXT, "language": cycle("de", "en"), "Kategorie": SENTIMENT},
        (),
        ("language", "Kategorie"),
    ),
    "a source beside codes of many values": (
        {"comment": TEXT, "source": cycle("web", "app"), "human_code": USERS},
        (),
        ("source", "human_code"),
    ),
    "tags beside a product": (
        {"text": TEXT, "tags": cycle("x", "y", "z"), "Product": SENTIMENT},
        (),
        ("tags", "Product"),
    ),
    "a score of many values beside a verdict": (
        {"post": TEXT, "score": FRACTIONS, "verdict": SENTIMENT},
        (),
        ("score", "verdict"),
    ),
    "a sentiment of one value beside a language": (
        {"text": TEXT, "sentiment": ONE, "language": cycle("de", "en")},
        (),
        ("sentiment", "language"),
    ),
    "survey answers, the words before the numbers": (
        {"Q1": STARS, "Q2": cycle("1", "2"), "Open comment": TEXT, "Segment": cycle("A", "B")},
        (),
        ("Segment", "Q1", "Q2"),
    ),
}
"""Name -> columns, the candidates for the text, and those for the label, in the message's order."""

REFUSED = {
    "numbers only": (
        {"text": NUMBER, "label": BINARY},
        "no column is known or looks like the text",
    ),
    "no label": ({"id": NUMBER, "text": TEXT}, "no column is known or looks like the label"),
    "labels in free text": (
        {"text": TEXT, "notes": OTHER},
        "no column is known or looks like the label",
    ),
    "ids and dates": (
        {"uuid": CODE, "created": DATE, "link": LINK, "label": BINARY},
        "no column is known or looks like the text",
    ),
    "no header": ({"ham": cycle("ham", "spam"), "Go until jurong point": TEXT}, "no header"),
}
"""Name -> columns, and what the message says of them."""
